//! A made-up provider whose resource takes a whole other object.

use async_trait::async_trait;
use terraform_provider_etcd::plugin::block::{
    ApplyRequest, ApplyResponse, Context, DataSource, Function, ImportRequest, ImportResponse, PlanRequest,
    PlanResponse, Provider, ReadRequest, ReadResponse, Resource,
};
use terraform_provider_etcd::plugin::diagnostics::Diagnostics;
use terraform_provider_etcd::plugin::path::Path;
use terraform_provider_etcd::plugin::schema::{Attribute, Remembered, Schema};
use terraform_provider_etcd::plugin::value::Value;

pub const TENANT: &str = "houses_tenant";

pub fn schema() -> Schema {
    let next = Remembered {
        revision: "place_revision",
        carried: "place_carried",
    };
    let place = vec![
        Attribute::string("name").required().requires_replace(),
        Attribute::map_of("rooms", vec![Attribute::number("size").default(1)]),
        Attribute::string("key").write_only().sensitive(),
    ];
    Schema {
        version: 0,
        description: "A tenant.",
        attributes: vec![
            Attribute::object("place", place).required().remembered(next),
            Attribute::string("note"),
            Attribute::string("seen").computed().use_state(),
            Attribute::string("place_revision").computed().use_state(),
            Attribute::string("place_carried").computed().sensitive(),
        ],
    }
}

/// The provider.
#[derive(Default)]
pub struct Houses(pub Vec<Box<dyn Resource>>);

#[async_trait]
impl Provider for Houses {
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
        &self.0
    }
    fn data_sources(&self) -> &[Box<dyn DataSource>] {
        &[]
    }
    fn functions(&self) -> &[Box<dyn Function>] {
        &[]
    }
}

/// It knows nothing of what Terraform stores: it says in `seen` which place it saw, and fails without one.
pub struct Tenant;

fn name(block: &Value) -> String {
    let name = block.at(&["place", "name"]).as_str().expect("a place");
    let rooms = block.at(&["place", "rooms"]).as_map().map_or(0, |rooms| rooms.len());
    format!("{name} with {rooms}")
}

fn done(mut state: Value, private: &[u8], what: u8) -> ApplyResponse {
    state.set("seen", name(&state));
    let own = [private, &[what]].concat();
    ApplyResponse {
        state,
        private: own,
        diagnostics: Diagnostics::new(),
    }
}

#[async_trait]
impl Resource for Tenant {
    fn name(&self) -> &'static str {
        TENANT
    }
    fn schema(&self) -> Schema {
        schema()
    }
    fn identity(&self) -> Vec<Attribute> {
        vec![Attribute::string("name").required()]
    }
    fn identity_of(&self, state: &Value) -> Value {
        Value::object([("name", state.at(&["place", "name"]).clone())])
    }
    async fn read(&self, _: &Context, request: ReadRequest) -> ReadResponse {
        name(&request.state);
        ReadResponse {
            state: request.state,
            private: [&request.private, &b"r"[..]].concat(),
            diagnostics: Diagnostics::new(),
        }
    }
    async fn plan(&self, _: &Context, mut request: PlanRequest) -> PlanResponse {
        if !request.prior.is_null() {
            name(&request.prior);
        }
        if request.prior != request.planned {
            request.planned.set("seen", Value::Unknown);
        }
        let moved = request.config.get("note").as_str() == Some("move");
        PlanResponse {
            planned: request.planned,
            requires_replace: moved.then(|| Path::of("place")).into_iter().collect(),
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }
    async fn create(&self, _: &Context, request: ApplyRequest) -> ApplyResponse {
        assert_eq!(request.config.at(&["place", "key"]), &"hush".into());
        done(request.planned, &request.private, b'c')
    }
    async fn update(&self, _: &Context, request: ApplyRequest) -> ApplyResponse {
        name(&request.prior);
        done(request.planned, &request.private, b'u')
    }
    async fn delete(&self, _: &Context, request: ApplyRequest) -> ApplyResponse {
        name(&request.prior);
        assert_eq!(request.private, b"cr");
        ApplyResponse::deleted(request.prior, request.private, Diagnostics::new())
    }
    async fn import(&self, _: &Context, request: ImportRequest) -> ImportResponse {
        let name = request.id.unwrap_or_default();
        let place = Value::object([("name", name.into()), ("rooms", Value::object([]))]);
        let state = Value::object([("place", place), ("seen", "s".into())]);
        Ok((state, Diagnostics::new())).into()
    }
}
