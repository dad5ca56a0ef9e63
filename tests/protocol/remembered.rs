//! An attribute whose value Terraform does not store: how a Terraform that knows of that sees it, and one that doesn't.

use terraform_provider_etcd::plugin::codec::{attributes_type, decode, encode};
use terraform_provider_etcd::plugin::proto::tfplugin6::{
    self as pb, apply_resource_change, configure_provider, generate_resource_config, get_provider_schema,
    import_resource_state, plan_resource_change, read_resource, upgrade_resource_state,
};
use terraform_provider_etcd::plugin::value::Value;

use crate::client::{Client, client_of, path_text, summaries};
use crate::houses::{Houses, TENANT, Tenant, schema};

/// Terraform: whether it leaves write-only values out, and what it would have in its state file.
struct Terraform {
    client: Client,
    knows: bool,
    state: Value,
    private: bytes::Bytes,
}

fn message(value: &Value) -> Option<pb::DynamicValue> {
    Some(encode(value, &attributes_type(&schema().attributes)).unwrap())
}

fn value(message: Option<&pb::DynamicValue>) -> Value {
    decode(message.expect("a value"), &attributes_type(&schema().attributes)).unwrap()
}

/// A whole configuration.
fn config(place: &str, rooms: &[&str], note: &str) -> Value {
    let room = |name: &&str| ((*name).to_owned(), Value::object([("size", Value::Null)]));
    let rooms = Value::Map(rooms.iter().map(room).collect());
    let place = Value::object([("name", place.into()), ("rooms", rooms), ("key", "hush".into())]);
    value(message(&Value::object([("place", place), ("note", note.into())])).as_ref())
}

impl Terraform {
    async fn new(knows: bool) -> Self {
        let mut all = Self {
            client: client_of(Houses(vec![Box::new(Tenant)])).await,
            knows,
            state: Value::Null,
            private: bytes::Bytes::new(),
        };
        let request = configure_provider::Request {
            client_capabilities: all.capabilities(),
            ..Default::default()
        };
        all.client.configure_provider(request).await.unwrap();
        all
    }

    fn capabilities(&self) -> Option<pb::ClientCapabilities> {
        self.knows.then(|| pb::ClientCapabilities {
            write_only_attributes_allowed: true,
            ..Default::default()
        })
    }

    /// What was asked of the one before is asked of another process.
    async fn again(self) -> Self {
        Self {
            state: self.state,
            private: self.private,
            ..Self::new(self.knows).await
        }
    }

    fn check(&self, value: &Value) {
        if self.knows {
            assert!(value.get("place").is_null(), "what is write-only is null");
        }
    }

    async fn plan(&mut self, config: &Value) -> plan_resource_change::Response {
        // Terraform's merge: what the provider computes is as before, what is write-only is null where that is known of.
        let mut proposed = config.clone();
        for name in ["seen", "place_revision", "place_carried"] {
            if !config.is_null() {
                proposed.set(name, self.state.get(name).clone());
            }
        }
        if self.knows && !config.is_null() {
            proposed.set("place", Value::Null);
        }
        let request = plan_resource_change::Request {
            type_name: TENANT.into(),
            prior_state: message(&self.state),
            proposed_new_state: message(&proposed),
            config: message(config),
            prior_private: self.private.clone(),
            client_capabilities: self.capabilities(),
            ..Default::default()
        };
        let answer = self.client.plan_resource_change(request).await.unwrap().into_inner();
        assert_eq!(answer.diagnostics, []);
        self.check(&value(answer.planned_state.as_ref()));
        answer
    }

    async fn apply(&mut self, config: &Value, plan: plan_resource_change::Response) {
        let planned = value(plan.planned_state.as_ref());
        let request = apply_resource_change::Request {
            type_name: TENANT.into(),
            prior_state: message(&self.state),
            planned_state: message(&planned),
            config: message(config),
            planned_private: plan.planned_private,
            ..Default::default()
        };
        let answer = self.client.apply_resource_change(request).await.unwrap().into_inner();
        assert_eq!(answer.diagnostics, []);
        self.state = value(answer.new_state.as_ref());
        self.private = answer.private;
        if !planned.is_null() {
            let (revision, now) = (planned.get("place_revision"), self.state.get("place_revision"));
            assert!(revision.is_unknown() || revision == now, "as planned");
            self.check(&self.state);
        }
    }

    async fn changes(&mut self, config: &Value) {
        let plan = self.plan(config).await;
        self.apply(config, plan).await;
    }

    async fn refresh(&mut self) -> Vec<pb::Diagnostic> {
        let request = read_resource::Request {
            type_name: TENANT.into(),
            current_state: message(&self.state),
            private: self.private.clone(),
            client_capabilities: self.capabilities(),
            ..Default::default()
        };
        let answer = self.client.read_resource(request).await.unwrap().into_inner();
        self.state = value(answer.new_state.as_ref());
        self.private = answer.private;
        self.check(&self.state);
        answer.diagnostics
    }

    /// Reads a state file of the version before, or of this one.
    async fn read_state(&mut self, json: serde_json::Value) {
        let request = upgrade_resource_state::Request {
            type_name: TENANT.into(),
            version: 0,
            raw_state: Some(pb::RawState {
                json: serde_json::to_vec(&json).unwrap().into(),
                ..Default::default()
            }),
        };
        let answer = self.client.upgrade_resource_state(request).await.unwrap().into_inner();
        assert_eq!(answer.diagnostics, []);
        self.state = value(answer.upgraded_state.as_ref());
        self.check(&self.state);
    }

    async fn nothing_to_do(&mut self, config: &Value) {
        let plan = self.plan(config).await;
        assert_eq!(value(plan.planned_state.as_ref()), self.state);
    }

    async fn destroys(&mut self) {
        self.changes(&Value::Null).await;
        assert!(self.state.is_null());
    }
}

/// What a version of the provider that stored the value has written.
fn former() -> serde_json::Value {
    serde_json::json!({
        "place": { "name": "main", "rooms": { "a": { "size": 1 } }, "key": null }, "note": "n", "seen": "main with 1"
    })
}

#[tokio::test]
async fn the_wire_says_that_it_is_write_only() {
    let mut terraform = Terraform::new(true).await;
    let request = get_provider_schema::Request {};
    let schemas = terraform
        .client
        .get_provider_schema(request)
        .await
        .unwrap()
        .into_inner();
    let block = schemas.resource_schemas[TENANT].block.clone().unwrap();
    let write_only: Vec<&str> = { block.attributes.iter() }
        .filter(|one| one.write_only)
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(write_only, ["place"]);
}

#[tokio::test]
async fn a_life_with_either_terraform() {
    for knows in [true, false] {
        let mut terraform = Terraform::new(knows).await;
        let first = config("main", &["a"], "n");
        terraform.changes(&first).await;
        assert_eq!(terraform.state.get("seen"), &"main with 1".into());
        let revision = terraform.state.get("place_revision").clone();
        assert!(revision.as_str().is_some_and(|text| text.starts_with("main, 1 room, ")));
        assert_eq!(terraform.state.at(&["place", "key"]), &Value::Null);

        let mut terraform = terraform.again().await;
        terraform.nothing_to_do(&first).await;
        assert_eq!(terraform.refresh().await, []);
        terraform.nothing_to_do(&first).await;

        // Another place is a change, and shows as one; another note is not one of the place.
        let mut terraform = terraform.again().await;
        let second = config("main", &["a", "b"], "n");
        let plan = terraform.plan(&second).await;
        let planned = value(plan.planned_state.as_ref());
        assert!(
            planned
                .get("place_revision")
                .as_str()
                .is_some_and(|text| text.starts_with("main, 2 rooms, "))
        );
        assert_eq!(plan.requires_replace, []);
        let plan = terraform.plan(&config("main", &["a"], "other")).await;
        assert_eq!(value(plan.planned_state.as_ref()).get("place_revision"), &revision);

        // Saved, and applied by another process.
        let plan = terraform.plan(&second).await;
        let mut terraform = terraform.again().await;
        terraform.apply(&second, plan).await;
        assert_eq!(terraform.state.get("seen"), &"main with 2".into());
        terraform.nothing_to_do(&second).await;

        let own = terraform
            .private
            .split(|byte| *byte == b'\n')
            .next_back()
            .unwrap()
            .to_vec();
        assert_eq!(own, b"cru");
        let back = [&terraform.private[..terraform.private.len() - 3], b"cr"].concat();
        let mut terraform = Terraform {
            private: back.into(),
            ..terraform.again().await
        };
        terraform.destroys().await;
    }
}

#[tokio::test]
async fn changes_of_the_value_can_be_ignored() {
    let mut terraform = Terraform::new(true).await;
    terraform.changes(&config("main", &["a"], "n")).await;
    let revision = terraform.state.get("place_revision").clone();
    // For `ignore_changes` Terraform puts what the state has into the configuration.
    let mut ignoring = config("main", &["a", "b"], "n");
    ignoring.set("place", Value::Null);
    terraform.nothing_to_do(&ignoring).await;
    ignoring.set("note", "other");
    terraform.changes(&ignoring).await;
    assert_eq!(terraform.state.get("seen"), &"main with 1".into());
    assert_eq!(terraform.state.get("place_revision"), &revision);
}

#[tokio::test]
async fn what_makes_another_resource_is_what_terraform_sees() {
    for (knows, paths) in [(true, ["place_revision"]), (false, [".place"])] {
        let mut terraform = Terraform::new(knows).await;
        terraform.changes(&config("main", &["a"], "n")).await;
        let plan = terraform.plan(&config("main", &["a", "b"], "move")).await;
        let found: Vec<String> = plan.requires_replace.iter().map(path_text).collect();
        assert_eq!(found[0].trim_start_matches('.'), paths[0].trim_start_matches('.'));
    }
}

#[tokio::test]
async fn a_state_of_the_version_before_goes_on() {
    for knows in [true, false] {
        let first = config("main", &["a"], "n");
        for refresh in [true, false] {
            let mut terraform = Terraform::new(knows).await;
            terraform.private = b"cr".as_slice().into();
            terraform.read_state(former()).await;
            terraform.read_state(json(&terraform.state)).await;
            if refresh {
                terraform.private = b"c".as_slice().into();
                terraform.refresh().await;
            }
            if knows {
                assert_eq!(terraform.state.get("place_carried").is_null(), refresh);
                terraform.nothing_to_do(&first).await;
            }
            // A destroy without a refresh, by another process.
            let mut gone = Terraform {
                state: terraform.state.clone(),
                private: terraform.private.clone(),
                ..Terraform::new(knows).await
            };
            gone.destroys().await;
            // A change.
            terraform.changes(&config("main", &["a", "b"], "n")).await;
            assert_eq!(terraform.state.get("seen"), &"main with 2".into());
            assert!(terraform.state.get("place_carried").is_null());
            terraform.nothing_to_do(&config("main", &["a", "b"], "n")).await;
        }
    }
}

/// A state as a state file has it.
fn json(state: &Value) -> serde_json::Value {
    terraform_provider_etcd::plugin::value::from_value(state).unwrap()
}

#[tokio::test]
async fn another_terraform_takes_over_the_state() {
    let first = config("main", &["a"], "n");
    for knows in [true, false] {
        let mut terraform = Terraform::new(knows).await;
        terraform.changes(&first).await;
        let (state, private) = (json(&terraform.state), terraform.private.clone());
        let mut other = Terraform::new(!knows).await;
        other.private = private;
        other.read_state(state).await;
        assert_eq!(other.refresh().await, []);
        other.nothing_to_do(&first).await;
        assert_eq!(other.state.get("place").is_null(), !knows);
    }
}

#[tokio::test]
async fn a_replacement_deletes_the_old_one_by_what_it_was() {
    let mut terraform = Terraform::new(true).await;
    terraform.changes(&config("old", &["a"], "n")).await;
    terraform.refresh().await;
    let wanted = config("new", &["a", "b"], "n");
    let first = terraform.plan(&wanted).await;
    assert!(!first.requires_replace.is_empty());
    // Terraform plans again, as for a create, with what that plan gave.
    let old = terraform.state.clone();
    terraform.state = Value::Null;
    terraform.private = first.planned_private;
    let create = terraform.plan(&wanted).await;
    terraform.state = old;
    let delete = plan_resource_change::Response {
        planned_state: message(&Value::Null),
        ..create.clone()
    };
    terraform.apply(&Value::Null, delete).await;
    terraform.apply(&wanted, create).await;
    assert_eq!(terraform.state.get("seen"), &"new with 2".into());
    terraform.nothing_to_do(&wanted).await;
}

#[tokio::test]
async fn an_import_is_remembered_and_has_a_configuration() {
    let mut terraform = Terraform::new(true).await;
    let request = import_resource_state::Request {
        type_name: TENANT.into(),
        id: "main".into(),
        client_capabilities: terraform.capabilities(),
        ..Default::default()
    };
    let answer = terraform
        .client
        .import_resource_state(request)
        .await
        .unwrap()
        .into_inner();
    let imported = &answer.imported_resources[0];
    assert!(imported.identity.is_some());
    terraform.state = value(imported.state.as_ref());
    terraform.private = imported.private.clone();
    terraform.check(&terraform.state);
    assert_eq!(terraform.refresh().await, []);
    let request = generate_resource_config::Request {
        type_name: TENANT.into(),
        state: message(&terraform.state),
    };
    let answer = terraform
        .client
        .generate_resource_config(request)
        .await
        .unwrap()
        .into_inner();
    let generated = value(answer.config.as_ref());
    assert_eq!(generated.at(&["place", "name"]), &"main".into());
    assert!(generated.get("place_revision").is_null());
}

#[tokio::test]
async fn what_was_lost_comes_from_the_configuration() {
    let first = config("main", &["a"], "n");
    let mut terraform = Terraform::new(true).await;
    terraform.changes(&first).await;
    terraform.private = bytes::Bytes::new();
    let said = terraform.refresh().await;
    assert_eq!(summaries(&said), ["houses_tenant: the state lacks place"]);

    // A destroy has no configuration.
    let request = plan_resource_change::Request {
        type_name: TENANT.into(),
        prior_state: message(&terraform.state),
        proposed_new_state: message(&Value::Null),
        config: message(&Value::Null),
        ..Default::default()
    };
    let answer = terraform
        .client
        .plan_resource_change(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(summaries(&answer.diagnostics), ["houses_tenant: the state lacks place"]);

    let plan = terraform.plan(&first).await;
    assert_ne!(
        value(plan.planned_state.as_ref()),
        terraform.state,
        "there is something to do"
    );
    terraform.apply(&first, plan).await;
    terraform.nothing_to_do(&first).await;
    assert_eq!(terraform.refresh().await, []);
}
