//! A made-up provider with one resource that has every kind of attribute, and names that make it misbehave.

use async_trait::async_trait;
use terraform_provider_etcd::plugin::block::{
    Action, ApplyRequest, ApplyResponse, Context, DataResponse, DataSource, Deferral, Ephemeral, Function,
    FunctionError, ImportRequest, ImportResponse, List, Parameter, PlanRequest, PlanResponse, Provider, ReadRequest,
    ReadResponse, Resource,
};
use terraform_provider_etcd::plugin::diagnostics::{Diagnostic, Diagnostics};
use terraform_provider_etcd::plugin::path::Path;
use terraform_provider_etcd::plugin::schema::{Attribute, Kind, Schema, Type};
use terraform_provider_etcd::plugin::value::Value;

use crate::passing::{Pass, Shake, Shelf};

/// The provider.
pub struct Things {
    resources: Vec<Box<dyn Resource>>,
    data_sources: Vec<Box<dyn DataSource>>,
    functions: Vec<Box<dyn Function>>,
    actions: Vec<Box<dyn Action>>,
    ephemerals: Vec<Box<dyn Ephemeral>>,
    lists: Vec<Box<dyn List>>,
}

impl Things {
    pub fn new() -> Self {
        Self {
            resources: vec![Box::new(Thing)],
            data_sources: vec![Box::new(Count)],
            functions: vec![Box::new(Half)],
            actions: vec![Box::new(Shake)],
            ephemerals: vec![Box::new(Pass)],
            lists: vec![Box::new(Shelf)],
        }
    }
}

#[async_trait]
impl Provider for Things {
    fn schema(&self) -> Schema {
        let attributes = vec![Attribute::string("endpoint").describe("Where things are.")];
        Schema {
            attributes,
            ..Schema::default()
        }
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match config.get("endpoint").as_str() {
            Some("") => Diagnostic::error("Empty endpoint", "Give one.")
                .at(Path::of("endpoint"))
                .into(),
            _ => Diagnostics::new(),
        }
    }

    async fn configure(&self, _: &Context, config: &Value) -> Diagnostics {
        match config.get("endpoint").as_str() {
            Some("panic") => panic!("no such endpoint"),
            _ => Diagnostics::new(),
        }
    }

    fn resources(&self) -> &[Box<dyn Resource>] {
        &self.resources
    }

    fn data_sources(&self) -> &[Box<dyn DataSource>] {
        &self.data_sources
    }

    fn functions(&self) -> &[Box<dyn Function>] {
        &self.functions
    }

    fn actions(&self) -> &[Box<dyn Action>] {
        &self.actions
    }

    fn ephemerals(&self) -> &[Box<dyn Ephemeral>] {
        &self.ephemerals
    }

    fn lists(&self) -> &[Box<dyn List>] {
        &self.lists
    }
}

struct Thing;

/// What a server might say to somebody who reads a terminal.
pub const LIE: &str = "it said:\r\n\u{1b}[2K\u{1b}[1A\u{9b}32m\nApply complete! Resources: 9 added.\n\u{202e}desrever\u{200b}\u{8}\n╵\nError: none";

pub fn schema() -> Schema {
    Schema {
        version: 2,
        description: "A thing.",
        attributes: vec![
            Attribute::string("name")
                .required()
                .requires_replace()
                .describe("Its name; some misbehave."),
            Attribute::number("size").default(3),
            Attribute::string("note"),
            Attribute::string("secret").write_only().sensitive(),
            Attribute::number("secret_version"),
            Attribute::map("labels", Type::String),
            Attribute::object(
                "settings",
                vec![
                    Attribute::string("level").default("low"),
                    Attribute::string("token").write_only(),
                    Attribute::string("stamp").computed().use_state(),
                ],
            ),
            Attribute::list_of(
                "ports",
                vec![
                    Attribute::number("number").required(),
                    Attribute::bool("open").default(true),
                ],
            ),
            Attribute::map_of(
                "servers",
                vec![
                    Attribute::string("address").required().requires_replace(),
                    Attribute::number("serial").computed(),
                ],
            ),
            Attribute {
                kind: Kind::Set(vec![
                    Attribute::string("key").required(),
                    Attribute::string("value").default("none"),
                ]),
                ..Attribute::string("tags")
            },
            Attribute::string("id").computed().use_state(),
            Attribute::number("revision").computed(),
        ],
    }
}

#[async_trait]
impl Resource for Thing {
    fn name(&self) -> &'static str {
        "things_thing"
    }

    fn schema(&self) -> Schema {
        schema()
    }

    fn identity(&self) -> Vec<Attribute> {
        vec![Attribute::string("name").required()]
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match config.at(&["settings", "level"]).as_str() {
            Some("wrong") => {
                let path = Path::of("settings").attribute("level");
                Diagnostic::error("Wrong level", "There is no such level.")
                    .at(path)
                    .into()
            }
            _ => Diagnostics::new(),
        }
    }

    async fn read(&self, _: &Context, request: ReadRequest) -> ReadResponse {
        let gone = request.state.get("note").as_str() == Some("gone");
        ReadResponse {
            state: if gone { Value::Null } else { request.state },
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    fn defers(&self, request: &PlanRequest) -> Option<Deferral> {
        let later = request.config.get("note").as_str() == Some("later");
        later.then_some(Deferral::PrerequisiteAbsent)
    }

    async fn plan(&self, _: &Context, mut request: PlanRequest) -> PlanResponse {
        let replace = request.planned.get("note").as_str() == Some("replace me");
        if replace {
            request.planned.set("revision", 1);
        }
        let mut private = request.private;
        private.push(b'p');
        PlanResponse {
            planned: request.planned,
            requires_replace: if replace { vec![Path::of("note")] } else { Vec::new() },
            private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn plan_destroy(&self, _: &Context, _: &Value, private: Vec<u8>) -> (Vec<u8>, Diagnostics) {
        (private, Diagnostic::warning("It will be gone", "For ever.").into())
    }

    async fn create(&self, context: &Context, request: ApplyRequest) -> ApplyResponse {
        let name = request.planned.get("name").as_str().unwrap_or_default().to_owned();
        match name.as_str() {
            "panic" => panic!("cannot be made"),
            "forgetful" => {
                return ApplyResponse {
                    state: request.planned,
                    private: Vec::new(),
                    diagnostics: Diagnostics::new(),
                };
            }
            "half" => {
                let mut state = request.planned;
                state.set("id", "half-made");
                let diagnostics = Diagnostic::error("Only half made", "Apply again.")
                    .at(Path::of("name"))
                    .into();
                return ApplyResponse {
                    state,
                    private: b"half".to_vec(),
                    diagnostics,
                };
            }
            "liar" => {
                let mut state = finish(request.planned, false);
                state.set("id", LIE);
                return ApplyResponse {
                    state,
                    private: Vec::new(),
                    diagnostics: Diagnostic::warning(LIE, LIE).into(),
                };
            }
            "slow" => context.stop.cancelled().await,
            _ => {}
        }
        let mut private = request.private;
        private.push(b'c');
        ApplyResponse {
            state: finish(request.planned, request.config.get("secret").as_str().is_some()),
            private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn update(&self, _: &Context, request: ApplyRequest) -> ApplyResponse {
        let mut private = request.private;
        private.push(b'u');
        ApplyResponse {
            state: finish(request.planned, false),
            private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn delete(&self, _: &Context, request: ApplyRequest) -> ApplyResponse {
        if request.prior.get("name").as_str() == Some("stubborn") {
            let diagnostics = Diagnostic::error("It stays", "It is stubborn.").into();
            return ApplyResponse {
                state: request.prior,
                private: request.private,
                diagnostics,
            };
        }
        ApplyResponse {
            state: Value::Null,
            private: Vec::new(),
            diagnostics: Diagnostics::new(),
        }
    }

    async fn import(&self, _: &Context, request: ImportRequest) -> ImportResponse {
        let name = request
            .id
            .or_else(|| request.identity.get("name").as_str().map(str::to_owned));
        let known = name.filter(|name| name != "nobody");
        ImportResponse {
            state: known.map_or(Value::Null, |name| {
                let mut state = Value::object([("name", name.into()), ("id", "imported".into())]);
                state.set("size", 3);
                state
            }),
            private: Vec::new(),
            diagnostics: Diagnostics::new(),
        }
    }

    fn upgrade(&self, version: i64, mut state: serde_json::Value) -> Result<serde_json::Value, Diagnostic> {
        if version == 0 {
            return Err(Diagnostic::error("Too old", "Make it anew."));
        }
        if let Some(object) = state.as_object_mut()
            && let Some(title) = object.remove("title")
        {
            object.insert("name".into(), title);
        }
        Ok(state)
    }
}

/// Puts values where the plan has unknowns.
fn finish(mut state: Value, secret_seen: bool) -> Value {
    fn known(value: &mut Value) {
        match value {
            Value::Map(entries) => {
                for (name, value) in entries.iter_mut().filter(|(_, value)| !value.is_wholly_known()) {
                    match name.as_str() {
                        "id" => *value = "id-1".into(),
                        "stamp" => *value = "stamp-1".into(),
                        "serial" | "revision" if value.is_unknown() => *value = 7.into(),
                        _ => known(value),
                    }
                }
            }
            Value::List(items) => items.iter_mut().for_each(known),
            _ => {}
        }
    }
    known(&mut state);
    if secret_seen {
        state.set("id", "id-of-secret");
    }
    state
}

struct Count;

pub fn count_schema() -> Schema {
    Schema {
        description: "How many things there are.",
        attributes: vec![
            Attribute::string("of").required(),
            Attribute::number("at_least").default(1),
            Attribute::number("count").computed(),
        ],
        ..Schema::default()
    }
}

#[async_trait]
impl DataSource for Count {
    fn name(&self) -> &'static str {
        "things_count"
    }

    fn schema(&self) -> Schema {
        count_schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match config.get("of").as_str() {
            Some("") => Diagnostic::error("Count of what?", "Say it.").at(Path::of("of")).into(),
            _ => Diagnostics::new(),
        }
    }

    async fn read(&self, context: &Context, mut config: Value) -> DataResponse {
        let mut diagnostics = Diagnostics::new();
        match config.get("of").as_str() {
            Some("panic") => panic!("too many to count"),
            Some("slow") => context.stop.cancelled().await,
            Some("few") => diagnostics.push(Diagnostic::warning("Few", "There are few.")),
            _ => {}
        }
        let unknown = config.get("of").as_str() == Some("stars");
        config.set("count", if unknown { Value::Unknown } else { 7.into() });
        DataResponse {
            state: config,
            diagnostics,
        }
    }
}

struct Half;

impl Function for Half {
    fn name(&self) -> &'static str {
        "half"
    }

    fn summary(&self) -> &'static str {
        "Half of a number"
    }

    fn description(&self) -> &'static str {
        "Even numbers only."
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter {
            name: "number",
            r#type: Type::Number,
            description: "An even number.",
        }]
    }

    fn returns(&self) -> Type {
        Type::Number
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        match arguments.first().and_then(Value::as_i64) {
            Some(0) => panic!("half of nothing"),
            Some(number) if number % 2 == 0 => Ok((number / 2).into()),
            _ => Err(FunctionError {
                message: "it must be even".into(),
                argument: Some(0),
            }),
        }
    }
}
