//! What a host is before and after: every file that somebody could have changed, units, ports, processes of etcd.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use etcd_lab::Lab;

/// The hosts, a set of lines each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(Vec<(String, BTreeSet<String>)>);

// Left out is what a system writes by itself: packages, the states of timers and the journal, sudo's note in the home of whoever
// used it, and the backups and the lock that every useradd leaves beside its files.
const SCRIPT: &str = r#"
find_own() {
  find /etc /usr/local /var/lib /opt /home /root /run/etcd* /tmp /var/tmp -xdev \( -path /var/lib/dpkg -o -path /var/lib/apt \
    -o -path /var/lib/systemd -o -path /var/lib/private -o -path '/*/systemd-private-*' \
    -o -path '/etc/*-' -o -path /etc/.pwd.lock -o -name .sudo_as_admin_successful \) -prune -o "$@" 2>/dev/null
}
find_own -type d -printf 'folder %p %m %U %G\n'
find_own -type l -printf 'link %p %l\n'
find_own -type f -printf 'file %p %m %U %G %s\n'
find_own -type f -size -100k -print0 | xargs -0 sha256sum
# A session of SSH's may be about to end.
systemctl list-unit-files --no-legend --no-pager 2>/dev/null | grep -v '^session-[^ ]*\.scope ' | sed 's/^/unit /'
systemctl list-units --all --no-legend --plain --no-pager '*etcd*' 2>/dev/null | sed 's/^/loaded /'
ss -Hltun | awk '{print "port", $1, $5}'
pgrep -a etcd | sed 's/^/process /'
"#;

impl Fingerprint {
    /// Takes it of all of the lab's hosts that are on.
    pub fn take(lab: &Lab) -> Result<Self> {
        let mut all = Vec::new();
        for host in lab.hosts() {
            if lab.is_on(host)? {
                let text = lab.exec(host, SCRIPT)?.stdout;
                all.push((host.to_owned(), text.lines().map(str::to_owned).collect()));
            }
        }
        Ok(Self(all))
    }

    /// Wants the hosts to be as they were.
    pub fn unchanged(&self, lab: &Lab) -> Result<()> {
        self.unchanged_but_for(lab, |_| false)
    }

    /// The same without the lines that `is_theirs` says yes to: what is no business of the provider's goes on meanwhile.
    pub fn without(self, is_theirs: impl Fn(&str) -> bool) -> Self {
        let hosts = self.0.into_iter().map(|(host, lines)| {
            let lines = lines.into_iter().filter(|line| !is_theirs(line)).collect();
            (host, lines)
        });
        Self(hosts.collect())
    }

    /// Wants the hosts to be as they were, but for new lines that `may_be_new` says yes to.
    pub fn unchanged_but_for(&self, lab: &Lab, may_be_new: impl Fn(&str) -> bool) -> Result<()> {
        let now = Self::take(lab)?;
        for ((host, before), (_, after)) in self.0.iter().zip(&now.0) {
            let gone: Vec<_> = before.difference(after).collect();
            let new: Vec<_> = after.difference(before).filter(|line| !may_be_new(line)).collect();
            ensure!(
                gone.is_empty() && new.is_empty(),
                "{host} was changed: gone {gone:#?}, new {new:#?}"
            );
        }
        ensure!(self.0.len() == now.0.len(), "not the same hosts are on");
        Ok(())
    }
}
