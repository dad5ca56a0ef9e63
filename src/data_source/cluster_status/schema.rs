//! The schema of `etcd_cluster_status`.

use super::snapshots;
use crate::plugin::schema::{Attribute, Schema, Type};
use crate::resource::cluster::model as cluster;

/// The schema.
pub fn schema() -> Schema {
    let mut cluster_attributes = cluster::shared_attributes();
    cluster_attributes.extend([
        Attribute::string("token").describe("Its token."),
        Attribute::string("domain").describe("The domain of its members' names."),
        Attribute::object("certificate_authorities", authorities())
            .describe("Its certificate authorities, without their keys."),
    ]);
    Schema {
        version: 0,
        description: "How an etcd cluster is: every member, every directed pair of members, and what that amounts to.",
        attributes: vec![
            Attribute::object("cluster", cluster_attributes)
                .required()
                .describe("The cluster: `etcd_cluster.<name>`. Private keys are left out: they get into no state here."),
            Attribute::string("timeout").describe(
                "How long each server and its member may take to answer; all are asked at the same time. From `1s` to `7d`. Default: `10s`.",
            ),
            text("id", "The cluster's name."),
            truth("healthy", "Whether there is a quorum and `problems` is empty. Null if no server was reached."),
            truth("has_quorum", "Whether enough voting members are healthy to write. Null if the servers that were not reached may hold a quorum, or complete it."),
            texts("problems", "Everything that is wrong, a sentence each."),
            text("leader", "The member that leads, by the name of its server; null if there is none."),
            text("cluster_id", "etcd's ID of the cluster, in hexadecimal."),
            number(
                "voters",
                "How many members vote, as the member list says; as many as there are servers as long as nobody answers.",
            ),
            number("quorum", "How many of them have to be healthy."),
            number("healthy_voters", "How many of them are."),
            number("failures_tolerated", "How many more of them may fail before nothing can be written any more."),
            texts("expendable_networks", "The networks that may be lost now, one at a time, with a quorum left."),
            number("clock_difference_ms", "How far the clocks of the servers are apart at least, in ms, in steps of 100."),
            text("diagram_mermaid", "A picture of it as a Mermaid flowchart."),
            text("diagram_svg", "A picture of it as an SVG image that needs nothing else, for light and dark pages."),
            Attribute::map_of("members", member())
                .computed()
                .describe("Every server and its member, by the server's name."),
            Attribute::list_of("links", link())
                .computed()
                .describe("Every directed pair of members: who dials whom."),
        ],
    }
}

fn authorities() -> Vec<Attribute> {
    let authority = |name, description| {
        Attribute::object(
            name,
            vec![Attribute::string("certificate").describe("Its certificate in PEM.")],
        )
        .describe(description)
    };
    vec![
        authority("peer", "The authority for connections between members."),
        authority("client", "The authority for connections of clients."),
    ]
}

fn member() -> Vec<Attribute> {
    vec![
        truth("reachable", "Whether the server was reached over SSH."),
        text(
            "service",
            "What the member's service does, in systemd's words: `active`, `failed`, `inactive`.",
        ),
        truth(
            "healthy",
            "Whether it takes part in a quorum: a linearizable read through it succeeded. A learner: whether it answers and knows a leader.",
        ),
        text("error", "Why it is not healthy; null if it is."),
        text("member_id", "etcd's ID of the member, in hexadecimal."),
        text("version", "The version of etcd that runs."),
        truth("is_leader", "Whether it leads."),
        truth("is_learner", "Whether it has no vote."),
        number("raft_term", "Raft's term, which grows with each election."),
        number("raft_index", "Raft's committed index."),
        number("raft_applied_index", "Raft's applied index."),
        number(
            "leader_changes",
            "How many changes of the leader it has seen since it started.",
        ),
        number("db_size", "The size of its database file in bytes."),
        number(
            "db_size_in_use",
            "How many of them are in use; the rest a defragmentation gives back.",
        ),
        number(
            "quota",
            "How many bytes the database may have; at that size etcd refuses writes.",
        ),
        number(
            "wal_fsync_ms",
            "How long its disk took for a synchronous write of the log, in ms: the mean of those that fell into the look, or if those were fewer \
             than three, of all since it started. In steps of a quarter, 1 at least.",
        ),
        texts("alarms", "Its alarms: `NOSPACE` or `CORRUPT`."),
        Attribute::object(
            "certificate_expiry",
            vec![
                text("peer", "Of the certificate that it shows to peers that dial it."),
                text("peer_client", "Of the certificate that it shows to peers it dials."),
                text("client", "Of the certificate that it shows to clients."),
            ],
        )
        .computed()
        .describe("When its certificates expire, in RFC 3339. Null without TLS."),
        number(
            "clock_offset_ms",
            "Its server's clock minus that of the machine that runs Terraform, in ms, in steps of 100.",
        ),
        number(
            "clock_uncertainty_ms",
            "How much of that may be wrong, in ms: half a round trip, in steps of 100.",
        ),
        Attribute::list_of(
            "rejected",
            vec![
                text("address", "Where they came from."),
                number("count", "How many."),
                text("error", "etcd's reason."),
            ],
        )
        .computed()
        .describe(
            "Connections that it rejected at its port for peers within the last 10 minutes, as its log says. On the \
             internet strangers knock at every open port.",
        ),
        snapshots::attribute(),
    ]
}

fn link() -> Vec<Attribute> {
    vec![
        text("from", "Who dials."),
        text("to", "Who is dialled."),
        truth(
            "connected",
            "Whether a stream is active, as `from` says or as is seen on it; null if it could not be asked.",
        ),
        truth(
            "reachable",
            "Whether a TCP connection could be opened just now from the server `from` to the peer port of `to`. Null if it was not \
             tried: `from` could not be asked.",
        ),
        text("error", "Why it could not; null if it could."),
        text(
            "address",
            "The address by which `from` dials `to`, as its /etc/hosts has it.",
        ),
        number("port", "The port that it dials."),
        text(
            "source_address",
            "The address from which the connection comes, as `to` sees it. Behind a NAT it may be another one than `from` is \
             dialled at. Null where it can't be told.",
        ),
        number(
            "rtt_ms",
            "The round trip in ms: as the kernel measures it where the server has `ss`, else the mean of etcd's own probes, which is too low in the first minutes. In steps of a quarter, 1 at least.",
        ),
        number(
            "loss_percent",
            "How many of a hundred packets, to the nearest whole one, from `from` to `to` are lost, since the connections were opened that it sends on. Null where it \
             sent fewer than 500, or has no `ss`.",
        ),
        number(
            "lost_streams",
            "How often `from` has lost its stream to `to` since it started.",
        ),
        number(
            "rejected",
            "How many connections of `from` the other end rejected within the last 10 minutes, as far as its address tells.",
        ),
    ]
}

fn text(name: &'static str, description: &'static str) -> Attribute {
    Attribute::string(name).computed().describe(description)
}

fn number(name: &'static str, description: &'static str) -> Attribute {
    Attribute::number(name).computed().describe(description)
}

fn truth(name: &'static str, description: &'static str) -> Attribute {
    Attribute::bool(name).computed().describe(description)
}

fn texts(name: &'static str, description: &'static str) -> Attribute {
    Attribute::list(name, Type::String).computed().describe(description)
}
