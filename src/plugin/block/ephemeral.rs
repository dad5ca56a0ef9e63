//! What an ephemeral resource is to the protocol: something that is there for as long as a run lasts, and is stored nowhere.

use std::time::SystemTime;

use async_trait::async_trait;

use super::{Context, Deferral};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::Schema;
use crate::plugin::value::Value;

/// What was opened.
#[derive(Default)]
pub struct Opened {
    /// The configuration with everything that was computed. Nothing in it may be unknown.
    pub result: Value,
    /// To be given to renew and close.
    pub private: Vec<u8>,
    /// When it is to be renewed, if at all.
    pub renew_at: Option<SystemTime>,
    /// Errors and warnings. What has errors is not open, and never closed.
    pub diagnostics: Diagnostics,
}

impl From<Diagnostics> for Opened {
    fn from(diagnostics: Diagnostics) -> Self {
        Self {
            diagnostics,
            ..Self::default()
        }
    }
}

/// What was renewed.
#[derive(Default)]
pub struct Renewed {
    /// To be given to the next renew, and to close.
    pub private: Vec<u8>,
    /// When it is to be renewed again, if at all.
    pub renew_at: Option<SystemTime>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// An ephemeral resource (Terraform 1.10, OpenTofu 1.11, and later).
#[async_trait]
pub trait Ephemeral: Send + Sync {
    /// The full type name, such as `etcd_tunnel`.
    fn name(&self) -> &'static str;

    /// Its schema.
    fn schema(&self) -> Schema;

    /// Checks a configuration as far as it is known, without I/O.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Whether it can only be opened later. Asked for where Terraform can wait.
    fn defers(&self, config: &Value) -> Option<Deferral> {
        let _ = config;
        None
    }

    /// Opens it. The configuration is wholly known, with defaults where it had null.
    async fn open(&self, context: &Context, config: Value) -> Opened;

    /// Keeps it open beyond the time that was said.
    async fn renew(&self, context: &Context, private: Vec<u8>) -> Renewed {
        let _ = context;
        Renewed {
            private,
            ..Renewed::default()
        }
    }

    /// Closes it.
    async fn close(&self, context: &Context, private: Vec<u8>) -> Diagnostics {
        let _ = (context, private);
        Diagnostics::new()
    }
}
