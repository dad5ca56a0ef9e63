//! Problems and remarks in words.

use std::fmt;

use super::{Problem, Remark};

/// As the rest of a sentence that begins with the member's server.
impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlowDisk(ms) => write!(
                f,
                "takes {ms:.0} ms for a synchronous write of its log, on average since it was started. etcd wants 10 ms or less: each write of the \
                 cluster waits for that, and a leader with such a disk loses its leadership"
            ),
            Self::Clock(ms) => {
                let direction = if *ms < 0 { "behind" } else { "ahead of" };
                let tenths = ms.unsigned_abs() / 100;
                write!(
                    f,
                    "has a clock that is {}.{} s {direction} that of the machine that runs Terraform. Leases and certificates go by clocks: let a time \
                     service keep both",
                    tenths / 10,
                    tenths % 10
                )
            }
            Self::Far(peer, ms, election) => write!(
                f,
                "is {ms:.0} ms from {peer} and back, which is too long for an election timeout of {election} ms: one late packet starts an election. \
                 Set election_timeout of the cluster to ten round trips, and heartbeat_interval to one"
            ),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoQuorum {
                healthy,
                quorum,
                voters,
            } => write!(
                f,
                "no quorum: {healthy} of {voters} voting members healthy, {quorum} needed; nothing can be written"
            ),
            Self::QuorumUnknown {
                healthy,
                unreached,
                quorum,
                voters,
            } => write!(
                f,
                "nothing says whether there is a quorum: {healthy} of {voters} voting members are known to be healthy, {quorum} are needed, and \
                 the servers of {unreached} were not reached"
            ),
            Self::Leaders => write!(
                f,
                "the members follow different leaders: an election is under way, or the network is split"
            ),
            Self::Unreached(name, why) => write!(f, "{name}: its server can't be reached: {why}"),
            Self::Stopped(name, state) => write!(
                f,
                "{name}: its etcd does not run (the service is {state}); `journalctl -u 'etcd-*'` on the server says why"
            ),
            Self::PortTaken(name, port, process) => write!(
                f,
                "{name}: port {port} of its etcd is taken by {process}: end that, or move it to another port"
            ),
            Self::SlowDisk(name, ms) => write!(
                f,
                "{name}: its disk takes {ms:.0} ms for a synchronous write; each write of the cluster waits for that, and heartbeats do. \
                 etcd wants 10 ms or less"
            ),
            Self::Timing(pair, ms, election) => write!(
                f,
                "a round trip between {} and {} takes {ms:.0} ms, which is too long for an election timeout of {election} ms: one late packet \
                 starts an election. Set heartbeat_interval to one round trip and election_timeout to ten ({:.0} and {:.0}, for example); members are \
                 restarted one at a time",
                pair.from,
                pair.to,
                (ms / 10.0).ceil() * 10.0,
                (ms / 10.0).ceil() * 100.0
            ),
            Self::Lossy(pair, percent) => write!(
                f,
                "{percent:.1}% of the packets from {} to {} are lost: writes wait for those that are sent again. `links` has the loss of each way",
                pair.from, pair.to
            ),
            Self::Unhealthy(name, why) => write!(f, "{name}: etcd is not healthy: {why}"),
            Self::NotListed(name) => write!(f, "{name}: the cluster's member list doesn't have it"),
            Self::Foreign(name) => write!(f, "the member list has {name}, which is on none of the servers"),
            Self::Alarm(name, alarm) => write!(f, "{name}: the alarm {alarm} is raised"),
            Self::AlarmElsewhere(who, alarm) => write!(
                f,
                "the alarm {alarm} of {who} is raised still, and keeps the cluster from writing; the action `etcd_disarm_alarms` takes it back"
            ),
            Self::NearlyFull(name, percent) => write!(
                f,
                "{name}: its database has reached {percent}% of the quota; at 100% etcd refuses writes"
            ),
            Self::Certificate(name, kind, days) if *days < 0 => {
                write!(
                    f,
                    "{name}: its certificate for {kind} has expired; `terraform apply` issues a new one"
                )
            }
            Self::Certificate(name, kind, days) => write!(
                f,
                "{name}: its certificate for {kind} expires in {days} days; `terraform apply` issues a new one"
            ),
            Self::Snapshots(name, why) => write!(f, "{name}: it takes no snapshots as it should: {why}"),
            Self::Clocks(one, other, apart) => write!(
                f,
                "the clocks of {one} and {other} differ by {}.{:01} s or more; let a time service (chrony, systemd-timesyncd) keep them",
                apart / 1000,
                apart % 1000 / 100
            ),
            Self::Address(pair) => write!(
                f,
                "{} has {} at {} in its /etc/hosts, and should have {}; `terraform apply` writes that",
                pair.from,
                pair.to,
                pair.address.as_deref().unwrap_or_default(),
                pair.expected_address.as_deref().unwrap_or_default()
            ),
            Self::Disconnected(pair) => {
                let address = pair
                    .address
                    .as_deref()
                    .or(pair.expected_address.as_deref())
                    .unwrap_or("?");
                write!(
                    f,
                    "{} does not reach {}, which it dials at {address} port {}",
                    pair.from, pair.to, pair.port
                )?;
                match (&pair.rejected, &pair.unreachable) {
                    (Some((count, from, why)), _) => write!(
                        f,
                        "; {} rejected {count} connections from {from} in the last minutes: {why}",
                        pair.to
                    ),
                    (None, Some(why)) => write!(f, ": {why}. Let TCP from {} through to it", pair.from),
                    (None, None) => write!(f, ", though a connection can be opened: look again in a minute"),
                }
            }
        }
    }
}
