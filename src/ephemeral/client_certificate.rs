//! `ephemeral "etcd_client_certificate"`: a certificate for a client, with its key, that no state ever has.

use std::sync::Arc;

use async_trait::async_trait;

use crate::plugin::block::{Context, Ephemeral, Opened};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::Schema;
use crate::plugin::value::Value;
use crate::resource::client_certificate::{issue, model};
use crate::resource::road::Road;

/// The block.
pub struct ClientCertificate {
    road: Arc<Road>,
}

impl ClientCertificate {
    /// The block, with what the provider was configured with.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }
}

#[async_trait]
impl Ephemeral for ClientCertificate {
    fn name(&self) -> &'static str {
        "etcd_client_certificate"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "A certificate for a client of etcd, with its key, issued for this run. Neither is stored anywhere.",
            attributes: model::ephemeral_attributes(),
        }
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        model::validate(config)
    }

    async fn open(&self, _context: &Context, config: Value) -> Opened {
        match issue::issue(&self.road, &config) {
            Ok(issued) => Opened {
                result: issued.into_value(config),
                ..Opened::default()
            },
            Err(error) => Diagnostics::from(error).into(),
        }
    }
}
