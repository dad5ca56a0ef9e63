//! One file that a member's server is to have.

use sha2::{Digest as _, Sha256};

use crate::etcd::layout::Layout;
use crate::host::{FileSpec, Script};
use crate::resource::member::observe::Seen;

/// A file that is to be on the server, owned by root and readable by the member.
#[derive(Clone)]
pub struct WantedFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub contents: Vec<u8>,
}

impl WantedFile {
    /// Whether the server has it with these contents.
    pub fn is_there(&self, seen: &Seen) -> bool {
        seen.files
            .get(&self.path)
            .is_some_and(|sum| *sum == sha256(&self.contents))
    }

    /// Writes it, if it differs.
    pub fn put(&self, script: Script, layout: &Layout) -> Script {
        script.write_file(&FileSpec {
            path: self.path.clone(),
            mode: self.mode,
            owner: format!("root:{}", layout.user()),
            contents: self.contents.clone().into(),
        })
    }
}

/// SHA-256 of a file's contents in hexadecimal.
fn sha256(contents: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(contents))
}
