//! One server and the etcd on it: what lies on its disk, how a start goes, and what may happen to it.

use std::collections::BTreeSet;

use super::history::{Id, List};

/// A server, by its number.
pub type Server = usize;
/// Servers.
pub type Servers = BTreeSet<Server>;

/// What a member is to run: etcd's minor version, and its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// 6 for etcd 3.6.
    pub minor: u64,
    /// Stands for everything whose change needs a restart.
    pub options: u32,
}

/// A member's data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The cluster that it is of, as a place in `World::histories`.
    pub history: usize,
    /// The member's own ID.
    pub id: Id,
    /// How much of the history it holds.
    pub length: usize,
    /// The newest minor version that has written to it: an older one does not start.
    pub minor: u64,
    /// It holds entries of 3.5, which 3.7 can't read.
    pub old_entries: bool,
}

/// What the service manager has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// Nothing.
    Stopped,
    /// It ended with an error, and is not started again.
    Failed,
    /// It ended, and is about to be started again.
    Crashed,
    /// It runs, started from these files.
    Running(Wanted),
}

/// A server.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Whether it runs and can be reached over SSH.
    pub up: bool,
    /// Who is in the same place can be reached by its etcd.
    pub place: u8,
    /// A script on it is cut off half-way by the machine's going down.
    pub cut: bool,
    /// The files in `/etc/etcd/<cluster>`.
    pub token: Option<u32>,
    pub permit: Option<u32>,
    pub joining: Option<List>,
    /// `initial-cluster` of `founding.yaml`.
    pub founding: Servers,
    /// The mark that the cluster was founded.
    pub founded: bool,
    pub files: Option<Wanted>,
    /// `initial-cluster` of `etcd.yaml`.
    pub peers: Servers,
    pub enabled: bool,
    pub restart_pending: bool,
    /// Its member was the last one of its cluster, and stopped with its data left in place.
    pub resting: bool,
    /// The cluster's block in the hosts file.
    pub view: Servers,
    pub log: Option<Log>,
    pub process: Process,
    /// What its etcd believes; it takes a while to notice that a leader is gone.
    pub knows_leader: bool,
}

impl Machine {
    /// A server without anything.
    pub fn new() -> Self {
        Self {
            up: true,
            place: 0,
            cut: false,
            token: None,
            permit: None,
            joining: None,
            founding: Servers::new(),
            founded: false,
            files: None,
            peers: Servers::new(),
            enabled: false,
            restart_pending: false,
            resting: false,
            view: Servers::new(),
            log: None,
            process: Process::Stopped,
            knows_leader: false,
        }
    }

    /// Whether its etcd runs.
    pub fn runs(&self) -> bool {
        matches!(self.process, Process::Running(_))
    }

    /// The log of the etcd that runs on it.
    pub fn running_log(&self) -> Option<&Log> {
        self.log.as_ref().filter(|_| self.runs())
    }

    /// The minor version that it ran last, where it does not run (`last` in `observe.sh`).
    pub fn last_minor(&self) -> Option<u64> {
        let files = self
            .files
            .filter(|_| self.log.is_some() && !self.runs() && !self.restart_pending);
        files.map(|files| files.minor)
    }

    /// Its etcd ends.
    pub fn end(&mut self, process: Process) {
        self.process = process;
        self.knows_leader = false;
    }

    /// The machine goes down.
    pub fn go_down(&mut self) {
        self.up = false;
        self.cut = false;
        self.end(Process::Stopped);
    }

    /// `resource/remove_member.sh`: its member is stopped and taken away, its data renamed.
    pub fn remove_member(&mut self) {
        self.end(Process::Stopped);
        self.log = None;
        self.files = None;
        self.founding.clear();
        self.founded = false;
        self.peers.clear();
        self.permit = None;
        self.joining = None;
        self.enabled = false;
        self.restart_pending = false;
        self.resting = false;
    }

    /// `resource/cluster/clear.sh`: that, and everything else of the cluster.
    pub fn clear(&mut self) {
        self.remove_member();
        self.token = None;
        self.view.clear();
    }
}
