//! Import of a server: its arguments, and what the machine says.

use super::ServerResource;
use crate::plugin::block::{ImportRequest, ImportResponse};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::Attribute;
use crate::plugin::value::{Value, from_value};
use crate::resource::import::{given, refused};

/// What identifies a server.
pub fn identity() -> Vec<Attribute> {
    vec![
        Attribute::string("name").required().describe("Its name."),
        Attribute::string("network")
            .required()
            .describe("The network that it stands in."),
        Attribute::string("private_address")
            .required()
            .describe("Its address within the network."),
        Attribute::string("public_address").describe("Its address for everybody else."),
    ]
}

impl ServerResource {
    pub(super) async fn take_over(&self, request: &ImportRequest) -> ImportResponse {
        let found = match given::server(request) {
            Ok(given) => self.found(given).await,
            Err(diagnostics) => Err(diagnostics),
        };
        found.map(|state| (state, Diagnostics::new())).into()
    }

    async fn found(&self, given: Value) -> Result<Value, Diagnostics> {
        let server = from_value(&given).map_err(|error| refused("etcd_server", &error.to_string()))?;
        let observed = self.observe(&server, None).await?;
        Ok(observed.into_state(given, &server))
    }
}
