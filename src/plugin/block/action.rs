//! What an action is to the protocol: something to be done when the user asks for it, which leaves no state.

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;

use super::{Context, Deferral};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::Schema;
use crate::plugin::value::Value;

/// What the user sees of an action while it runs.
#[derive(Clone, Debug)]
pub struct Progress(UnboundedSender<String>);

impl Progress {
    /// One that sends to `events`.
    #[must_use]
    pub fn new(events: UnboundedSender<String>) -> Self {
        Self(events)
    }

    /// Shows the user a line. Nobody may be there to see it any more, which stops nothing.
    pub fn say(&self, line: impl Into<String>) {
        let _ = self.0.send(line.into());
    }
}

/// An action (Terraform 1.14 and later).
#[async_trait]
pub trait Action: Send + Sync {
    /// The full type name, such as `etcd_defragment`.
    fn name(&self) -> &'static str;

    /// Its schema. An action computes nothing; attributes with a default are optional ones.
    fn schema(&self) -> Schema;

    /// Checks a configuration as far as it is known, without I/O.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Whether it can only be planned later. Asked for where Terraform can wait.
    fn defers(&self, config: &Value) -> Option<Deferral> {
        let _ = config;
        None
    }

    /// Says at plan time what speaks against it. The configuration has defaults where it had null, and may have unknowns.
    async fn plan(&self, context: &Context, config: Value) -> Diagnostics {
        let _ = (context, config);
        Diagnostics::new()
    }

    /// Does it. The configuration is wholly known, with defaults where it had null.
    async fn invoke(&self, context: &Context, config: Value, progress: &Progress) -> Diagnostics;
}
