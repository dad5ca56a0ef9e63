//! The provider's schema and the registry of its blocks.

use async_trait::async_trait;

use crate::plugin::block::{Context, Function, Provider, Resource};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::Schema;
use crate::plugin::value::Value;

/// The provider.
#[must_use]
pub fn provider() -> impl Provider {
    Etcd
}

struct Etcd;

#[async_trait]
impl Provider for Etcd {
    fn schema(&self) -> Schema {
        Schema::default()
    }

    async fn validate(&self, _: &Value) -> Diagnostics {
        Diagnostics::new()
    }

    async fn configure(&self, _: &Context, _: &Value) -> Diagnostics {
        Diagnostics::new()
    }

    fn resources(&self) -> &[Box<dyn Resource>] {
        &[]
    }

    fn functions(&self) -> &[Box<dyn Function>] {
        &[]
    }
}
