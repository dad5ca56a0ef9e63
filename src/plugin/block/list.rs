//! What a list resource is to the protocol: it finds what could be imported as managed resources of the same name.

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;

use super::Context;
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::Schema;
use crate::plugin::value::Value;

/// A wish to see what there is.
pub struct ListRequest {
    /// The configuration, with defaults where it had null.
    pub config: Value,
    /// Whether the resources themselves are wanted, beside their identities.
    pub with_resource: bool,
    /// How many are wanted at most.
    pub limit: Option<usize>,
}

/// One that was found.
#[derive(Default)]
pub struct Found {
    /// Its identity, as the managed resource has it.
    pub identity: Value,
    /// How it is shown.
    pub display_name: String,
    /// The managed resource's state, as far as it is known, where it was asked for.
    pub resource: Option<Value>,
    /// What there is to say about this one. What has errors ends the list.
    pub diagnostics: Diagnostics,
}

/// Where what is found goes to.
#[derive(Clone, Debug)]
pub struct Findings(UnboundedSender<Found>);

impl Findings {
    /// One that sends to `events`.
    #[must_use]
    pub fn new(events: UnboundedSender<Found>) -> Self {
        Self(events)
    }

    /// Adds one.
    pub fn add(&self, found: Found) {
        let _ = self.0.send(found);
    }
}

/// A list resource (Terraform 1.14 and later).
#[async_trait]
pub trait List: Send + Sync {
    /// The type name of the managed resource, which must have an identity.
    fn name(&self) -> &'static str;

    /// The schema of its `config` block.
    fn schema(&self) -> Schema;

    /// Checks a configuration as far as it is known, without I/O.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Looks, and says what is there as it is found. What is said of the whole is returned.
    async fn list(&self, context: &Context, request: ListRequest, findings: &Findings) -> Diagnostics;
}
