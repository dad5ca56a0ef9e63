//! The made-up provider's action, ephemeral resource and list resource.

use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use terraform_provider_etcd::plugin::block::{
    Action, Context, Deferral, Ephemeral, Findings, Found, List, ListRequest, Opened, Progress, Renewed,
};
use terraform_provider_etcd::plugin::diagnostics::{Diagnostic, Diagnostics};
use terraform_provider_etcd::plugin::path::Path;
use terraform_provider_etcd::plugin::schema::{Attribute, Schema};
use terraform_provider_etcd::plugin::value::Value;

/// Shakes things, as often as it is told; what it is about to do it says.
pub struct Shake;

pub fn shake_schema() -> Schema {
    Schema {
        description: "Shakes a thing.",
        attributes: vec![
            Attribute::string("thing").required(),
            Attribute::number("times").default(2),
            Attribute::string("password").write_only(),
            Attribute::object("strength", vec![Attribute::number("force").default(1)]),
        ],
        ..Schema::default()
    }
}

#[async_trait]
impl Action for Shake {
    fn name(&self) -> &'static str {
        "things_shake"
    }

    fn schema(&self) -> Schema {
        shake_schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match config.get("thing").as_str() {
            Some("") => Diagnostic::error("Shake what?", "Say it.").at(Path::of("thing")).into(),
            _ => Diagnostics::new(),
        }
    }

    fn defers(&self, config: &Value) -> Option<Deferral> {
        config
            .get("thing")
            .is_unknown()
            .then_some(Deferral::ConfigurationUnknown)
    }

    async fn plan(&self, _: &Context, config: Value) -> Diagnostics {
        match config.get("thing").as_str() {
            Some("glass") => Diagnostic::error("Glass breaks", "Leave it.")
                .at(Path::of("thing"))
                .into(),
            _ => Diagnostics::new(),
        }
    }

    async fn invoke(&self, context: &Context, config: Value, progress: &Progress) -> Diagnostics {
        let thing = config.get("thing").as_str().unwrap_or_default().to_owned();
        for time in 1..=config.get("times").as_i64().unwrap_or_default() {
            progress.say(format!("{thing} is shaken, {time}"));
        }
        if config.get("password").as_str().is_some() {
            progress.say("with a password");
        }
        match thing.as_str() {
            "panic" => panic!("it fell down"),
            "slow" => {
                context.stop.cancelled().await;
                Diagnostic::error("Stopped", "It may be shaken again.").into()
            }
            "vase" => Diagnostic::error("It broke", "Glue it.").at(Path::of("thing")).into(),
            _ => Diagnostics::new(),
        }
    }
}

/// A pass that lasts for a while.
pub struct Pass;

pub fn pass_schema() -> Schema {
    Schema {
        description: "Lets things in.",
        attributes: vec![
            Attribute::string("holder").required(),
            Attribute::string("door").default("front"),
            Attribute::string("code").computed().sensitive(),
        ],
        ..Schema::default()
    }
}

#[async_trait]
impl Ephemeral for Pass {
    fn name(&self) -> &'static str {
        "things_pass"
    }

    fn schema(&self) -> Schema {
        pass_schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match config.get("holder").as_str() {
            Some("") => Diagnostic::error("A pass for whom?", "Say it.")
                .at(Path::of("holder"))
                .into(),
            _ => Diagnostics::new(),
        }
    }

    fn defers(&self, config: &Value) -> Option<Deferral> {
        let later = config.get("holder").as_str() == Some("later");
        later.then_some(Deferral::PrerequisiteAbsent)
    }

    async fn open(&self, _: &Context, mut config: Value) -> Opened {
        if config.get("holder").as_str() == Some("stranger") {
            return Diagnostics::from(Diagnostic::error("Strangers get none", "Introduce yourself.")).into();
        }
        config.set("code", "open-sesame");
        Opened {
            result: config,
            private: b"pass-1".to_vec(),
            renew_at: Some(UNIX_EPOCH + Duration::from_millis(1_500)),
            ..Opened::default()
        }
    }

    async fn renew(&self, _: &Context, private: Vec<u8>) -> Renewed {
        Renewed {
            private: [private, b"+".to_vec()].concat(),
            ..Renewed::default()
        }
    }

    async fn close(&self, _: &Context, private: Vec<u8>) -> Diagnostics {
        Diagnostic::warning("Closed", String::from_utf8_lossy(&private)).into()
    }
}

/// The things on a shelf.
pub struct Shelf;

pub fn shelf_schema() -> Schema {
    Schema {
        description: "Things on a shelf.",
        attributes: vec![
            Attribute::string("shelf").required(),
            Attribute::number("things").default(3),
        ],
        ..Schema::default()
    }
}

#[async_trait]
impl List for Shelf {
    fn name(&self) -> &'static str {
        "things_thing"
    }

    fn schema(&self) -> Schema {
        shelf_schema()
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match config.get("shelf").as_str() {
            Some("") => Diagnostic::error("Which shelf?", "Say it.")
                .at(Path::of("shelf"))
                .into(),
            _ => Diagnostics::new(),
        }
    }

    async fn list(&self, _: &Context, request: ListRequest, findings: &Findings) -> Diagnostics {
        let shelf = request.config.get("shelf").as_str().unwrap_or_default();
        let there = request.config.get("things").as_i64().unwrap_or_default();
        for number in (1..=there).take(request.limit.unwrap_or(usize::MAX)) {
            let name = format!("{shelf}-{number}");
            let resource = Value::object([
                ("name", name.as_str().into()),
                ("size", 5.into()),
                ("id", "found".into()),
            ]);
            findings.add(Found {
                identity: Value::object([("name", name.as_str().into())]),
                display_name: format!("Thing {name}"),
                resource: request.with_resource.then_some(resource),
                ..Found::default()
            });
        }
        match shelf {
            "dusty" => Diagnostic::warning("Dusty", "Not everything can be seen.").into(),
            _ => Diagnostics::new(),
        }
    }
}
