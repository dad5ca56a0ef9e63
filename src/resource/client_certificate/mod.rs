//! `etcd_client_certificate`: a certificate for a client, with its key in the state. Where ephemeral resources are to be had, those
//! keep it out of there.

pub mod issue;
pub mod model;

use std::sync::Arc;

use async_trait::async_trait;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::etcd::certificates::parse;
use crate::plugin::block::{
    ApplyRequest, ApplyResponse, Context, PlanRequest, PlanResponse, ReadRequest, ReadResponse, Resource,
};
use crate::plugin::diagnostics::Diagnostics;
use crate::plugin::schema::Schema;
use crate::plugin::value::Value;
use crate::resource::road::Road;

/// What is computed when one is issued.
const ISSUED: [&str; 4] = ["certificate_pem", "private_key_pem", "ca_pem", "expires_at"];

/// The block.
pub struct ClientCertificateResource {
    road: Arc<Road>,
}

impl ClientCertificateResource {
    /// The block, with what the provider was configured with.
    pub fn new(road: Arc<Road>) -> Self {
        Self { road }
    }

    fn issue(&self, request: ApplyRequest) -> ApplyResponse {
        if !request.planned.get("certificate_pem").is_unknown() {
            // Only how long before its end it is renewed is another.
            return ApplyResponse {
                state: request.planned,
                private: Vec::new(),
                diagnostics: Diagnostics::new(),
            };
        }
        match issue::issue(&self.road, &request.config) {
            Ok(issued) => ApplyResponse {
                state: issued.into_value(request.planned),
                private: Vec::new(),
                diagnostics: Diagnostics::new(),
            },
            Err(error) => ApplyResponse {
                state: request.prior,
                private: Vec::new(),
                diagnostics: error.into(),
            },
        }
    }
}

/// Whether the one of the state is to be followed by another.
fn is_due(prior: &Value, planned: &Value, now: OffsetDateTime) -> bool {
    let authority = |value: &Value| {
        value
            .at(&["cluster", "certificate_authorities", "client", "certificate"])
            .clone()
    };
    let another = ["common_name", "lifetime"]
        .iter()
        .any(|name| prior.get(name) != planned.get(name));
    if prior.is_null() || another || authority(prior) != authority(planned) {
        return true;
    }
    let end = prior
        .get("expires_at")
        .as_str()
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let (Some(end), Ok(before)) = (end, model::renew_before(planned)) else {
        return true;
    };
    // One that ends with its authority gains nothing by being issued anew.
    let authority = authority(planned).as_str().and_then(|text| parse(text).ok());
    let last = authority.is_some_and(|authority| end >= authority.not_after);
    end <= now || (end - before <= now && !last)
}

#[async_trait]
impl Resource for ClientCertificateResource {
    fn name(&self) -> &'static str {
        "etcd_client_certificate"
    }

    fn schema(&self) -> Schema {
        Schema {
            version: 0,
            description: "A certificate for a client of etcd, with its key. Both are in the state: the ephemeral resource of the same name keeps \
                          them out of it.",
            attributes: model::resource_attributes(),
        }
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        model::validate(config)
    }

    async fn read(&self, _context: &Context, request: ReadRequest) -> ReadResponse {
        // There is nothing outside of the state that could be looked at.
        ReadResponse {
            state: request.state,
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn plan(&self, _context: &Context, request: PlanRequest) -> PlanResponse {
        let mut planned = request.planned;
        let due = is_due(&request.prior, &planned, OffsetDateTime::now_utc());
        for name in ISSUED {
            let value = if due {
                Value::Unknown
            } else {
                request.prior.get(name).clone()
            };
            planned.set(name, value);
        }
        if !due {
            // What clients are to trust changes with the cluster, while a rotation is under way.
            let trusted = planned
                .at(&["cluster", "certificate_authorities", "client", "trusted"])
                .clone();
            if trusted.is_unknown() || trusted.as_str().is_some() {
                planned.set("ca_pem", trusted);
            }
        }
        PlanResponse {
            planned,
            requires_replace: Vec::new(),
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn create(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        self.issue(request)
    }

    async fn update(&self, _context: &Context, request: ApplyRequest) -> ApplyResponse {
        self.issue(request)
    }

    async fn delete(&self, _context: &Context, _request: ApplyRequest) -> ApplyResponse {
        // etcd has no list of revoked certificates: it stays good until its end.
        ApplyResponse {
            state: Value::Null,
            private: Vec::new(),
            diagnostics: Diagnostics::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(expires_at: &str) -> Value {
        Value::object([
            ("common_name", "backup".into()),
            ("lifetime", "240h".into()),
            ("renew_before", "48h".into()),
            ("expires_at", expires_at.into()),
        ])
    }

    fn due(prior: &Value, planned: &Value) -> bool {
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        is_due(prior, planned, now)
    }

    #[test]
    fn one_is_issued_anew_before_its_end_and_when_it_is_to_say_something_else() {
        // 1 700 000 000 is 2023-11-14T22:13:20Z.
        let fresh = state("2023-11-20T00:00:00Z");
        assert!(due(&Value::Null, &fresh));
        assert!(!due(&fresh, &fresh));
        assert!(due(&state("2023-11-16T00:00:00Z"), &fresh), "in its last two days");
        assert!(due(&state("2023-11-14T00:00:00Z"), &fresh), "ended");
        let mut other = fresh.clone();
        other.set("common_name", "another");
        assert!(due(&fresh, &other));
        let mut earlier = fresh.clone();
        earlier.set("renew_before", "200h");
        assert!(due(&fresh, &earlier));
    }
}
