//! What is known of the Terraform that uses this process, and of values that it does not store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::catalog::ResourceEntry;
use crate::plugin::path::Path;
use crate::plugin::proto::tfplugin6 as pb;
use crate::plugin::remembered;
use crate::plugin::value::Value;

/// Terraform, as this process knows it.
#[derive(Default)]
pub struct Client {
    stores: AtomicBool,
    seen: Mutex<HashMap<(&'static str, String), Value>>,
}

impl Client {
    /// Notes what Terraform can do, as it says with the provider's configuration.
    pub fn begins(&self, capabilities: Option<pb::ClientCapabilities>) {
        let can = capabilities.is_some_and(|client| client.write_only_attributes_allowed);
        self.stores.store(!can, Ordering::Relaxed);
    }

    /// Notes what a later request says or shows.
    pub fn leaves_out(&self, whether: bool) {
        if whether {
            self.stores.store(false, Ordering::Relaxed);
        }
    }

    /// Gives a state the form that this Terraform stores, and private state what belongs to it.
    pub(super) fn store(&self, entry: &ResourceEntry, state: &mut Value, own: Vec<u8>, before: &[&Value]) -> Vec<u8> {
        let schema = &entry.schema;
        if !remembered::has_any(schema) || state.is_null() {
            return own;
        }
        remembered::revise(schema, state, before);
        if let Some(revision) = remembered::revision_of(schema, state) {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.insert((entry.name, revision), remembered::only(schema, state));
        }
        if self.stores.load(Ordering::Relaxed) {
            return own;
        }
        remembered::seal(&remembered::hide(schema, state), &own)
    }

    /// The same for a plan, whose values the configuration has.
    pub(super) fn show(&self, entry: &ResourceEntry, planned: &mut Value, before: &Value) {
        remembered::revise(&entry.schema, planned, &[before]);
        if !self.stores.load(Ordering::Relaxed) {
            remembered::hide(&entry.schema, planned);
        }
    }

    /// Where this Terraform sees what is at a path.
    pub(super) fn visible(&self, entry: &ResourceEntry, path: Path) -> Path {
        if self.stores.load(Ordering::Relaxed) {
            path
        } else {
            remembered::visible(&entry.schema, path)
        }
    }

    /// The same for a state of another version of the provider.
    pub(super) fn upgrade(&self, entry: &ResourceEntry, state: &mut Value) {
        if !self.stores.load(Ordering::Relaxed) {
            remembered::carry(&entry.schema, state);
        }
    }

    /// A state that this process has stored, with the values: Terraform asks for the configuration of what it has just imported.
    pub(super) fn recall(&self, entry: &ResourceEntry, state: Value) -> Value {
        let revision = remembered::revision_of(&entry.schema, &state);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match revision.and_then(|revision| seen.get(&(entry.name, revision))) {
            Some(values) => remembered::with(&entry.schema, state, values),
            None => state,
        }
    }
}
