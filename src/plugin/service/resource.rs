//! The RPCs about managed resources.

use std::sync::Arc;

use futures::FutureExt as _;

use super::catalog::ResourceEntry;
use super::{Service, deferred, misfit};
use crate::plugin::block::{ApplyRequest, ApplyResponse, ImportRequest, PlanRequest, Provider, ReadRequest};
use crate::plugin::codec::{decode_optional, decode_state, encode};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::plugin::path::Path;
use crate::plugin::plan;
use crate::plugin::proto::tfplugin6 as pb;
use crate::plugin::proto::tfplugin6::{
    apply_resource_change, generate_resource_config, import_resource_state, plan_resource_change, read_resource,
    upgrade_resource_identity, upgrade_resource_state, validate_resource_config,
};
use crate::plugin::schema::Presence;
use crate::plugin::value::Value;
use crate::plugin::{remembered, text, wire};

impl ResourceEntry {
    fn decode(&self, what: &str, message: Option<&pb::DynamicValue>) -> Result<Value, Diagnostics> {
        decode_optional(message, &self.r#type).map_err(|error| misfit(self.name, what, &error))
    }

    pub(super) fn encode(&self, what: &str, value: &Value) -> Result<pb::DynamicValue, Diagnostics> {
        encode(value, &self.r#type).map_err(|error| misfit(self.name, what, &error))
    }

    /// State has no write-only values and no unknowns. What was unknown is told.
    pub(super) fn clean_state(&self, state: &mut Value) -> Vec<Path> {
        plan::null_write_only(&self.schema.attributes, state);
        text::clean_computed(&self.schema.attributes, state);
        plan::null_unknowns(state, &Path::root())
    }

    /// A value that is in no state and in no private state: it was lost outside of the provider.
    fn not_remembered(&self, attribute: &str) -> Diagnostic {
        Diagnostic::error(
            format!("{}: the state lacks {attribute}", self.name),
            format!(
                "Terraform stores {attribute} in the private part of the state, and that part is empty. Nothing was changed. Run \
                 `terraform apply` first: it takes {attribute} from the configuration again."
            ),
        )
        .at(Path::of(attribute))
    }

    /// The answer to a refresh that can't look, with a state that makes the next plan a change.
    fn read_without(
        &self,
        mut state: Value,
        request: read_resource::Request,
        attribute: &str,
    ) -> Result<read_resource::Response, Diagnostics> {
        remembered::revise(&self.schema, &mut state, &[]);
        let warning = Diagnostic {
            severity: Severity::Warning,
            ..self.not_remembered(attribute)
        };
        Ok(read_resource::Response {
            new_state: Some(self.encode("state", &state)?),
            private: request.private,
            new_identity: request.current_identity,
            diagnostics: wire::diagnostics(warning.into()),
            deferred: None,
        })
    }

    /// The identity of a state or plan; none where the resource has none, or none yet.
    fn identity(
        &self,
        provider: &dyn Provider,
        state: &Value,
    ) -> Result<Option<pb::ResourceIdentityData>, Diagnostics> {
        if self.identity.is_empty() || state.is_null() {
            return Ok(None);
        }
        let identity = self.block(provider).identity_of(state);
        let complete = self.identity.iter().all(|one| {
            let part = identity.get(one.name);
            part.is_wholly_known() && (one.presence != Presence::Required || !part.is_null())
        });
        if !complete {
            return Ok(None);
        }
        self.identity_data(&identity).map(Some)
    }

    pub(super) fn identity_data(&self, identity: &Value) -> Result<pb::ResourceIdentityData, Diagnostics> {
        let data = encode(identity, &self.identity_type).map_err(|error| misfit(self.name, "identity", &error))?;
        Ok(pb::ResourceIdentityData {
            identity_data: Some(data),
        })
    }
}

impl Service {
    fn hears(&self, capabilities: Option<pb::ClientCapabilities>) {
        let can = capabilities.is_some_and(|client| client.write_only_attributes_allowed);
        self.client.leaves_out(can);
    }

    fn look_for_another_run(&self) {
        if self.changes.are_over() {
            tracing::debug!("another run begins");
            self.provider.new_run();
        }
    }

    pub(super) async fn validate_resource(
        &self,
        request: validate_resource_config::Request,
    ) -> Result<Diagnostics, Diagnostics> {
        let entry = self.catalog.resource(&request.type_name)?;
        let config = entry.decode("configuration", request.config.as_ref())?;
        let mut diagnostics = Diagnostics::new();
        if !request
            .client_capabilities
            .is_some_and(|client| client.write_only_attributes_allowed)
        {
            diagnostics.append(plan::refuse_write_only(&entry.schema, &config));
        }
        let task = move |provider: Arc<dyn Provider>, _| {
            async move { entry.block(&*provider).validate(&config).await }.boxed()
        };
        diagnostics.append(self.run("ValidateResourceConfig", &request.type_name, task).await?);
        Ok(diagnostics)
    }

    pub(super) fn upgrade(&self, request: upgrade_resource_state::Request) -> Result<pb::DynamicValue, Diagnostics> {
        let entry = self.catalog.resource(&request.type_name)?;
        let name = entry.name;
        let raw = request.raw_state.unwrap_or_default();
        if !raw.flatmap.is_empty() {
            return Err(Diagnostic::error(
                format!("{name}: the state is in a form from before Terraform 0.12"),
                "No version of this provider wrote such state. Remove the resource from the state and import it.",
            )
            .into());
        }
        let current = entry.schema.version;
        if request.version > current {
            return Err(Diagnostic::error(
                format!("{name}: the state was written by a newer version of the provider"),
                format!(
                    "It has schema version {}, and this version of the provider knows {current} at most. \
                     Use the newer version of the provider again.",
                    request.version
                ),
            )
            .into());
        }
        let mut json = if raw.json.is_empty() {
            serde_json::Value::Null
        } else {
            serde_json::from_slice(&raw.json).map_err(|error| {
                Diagnostic::error(
                    format!("{name}: the state can't be read"),
                    // serde_json tells the place; what is there may be a secret.
                    format!("It is no JSON at line {}, column {}.", error.line(), error.column()),
                )
            })?
        };
        if request.version < current {
            json = entry.block(&*self.provider).upgrade(request.version, json)?;
        }
        let mut state = decode_state(&json, &entry.r#type).map_err(|error| misfit(name, "stored state", &error))?;
        plan::null_write_only(&entry.schema.attributes, &mut state);
        self.client.upgrade(entry.as_ref(), &mut state);
        entry.encode("upgraded state", &state)
    }

    pub(super) fn upgrade_identity(
        &self,
        request: upgrade_resource_identity::Request,
    ) -> Result<pb::ResourceIdentityData, Diagnostics> {
        let entry = self.catalog.resource(&request.type_name)?;
        let raw = request.raw_identity.unwrap_or_default();
        let json = serde_json::from_slice(&raw.json).unwrap_or_default();
        let misfit = |error| misfit(entry.name, "stored identity", &error);
        let identity = decode_state(&json, &entry.identity_type).map_err(misfit)?;
        let data = encode(&identity, &entry.identity_type).map_err(misfit)?;
        Ok(pb::ResourceIdentityData {
            identity_data: Some(data),
        })
    }

    pub(super) async fn read(&self, request: read_resource::Request) -> Result<read_resource::Response, Diagnostics> {
        let entry = self.catalog.resource(&request.type_name)?;
        self.look_for_another_run();
        self.hears(request.client_capabilities);
        let state = entry.decode("state", request.current_state.as_ref())?;
        let recalled = remembered::recall(&entry.schema, state.clone(), &request.private);
        if let Some(name) = recalled.missing {
            return entry.read_without(state, request, name);
        }
        let (before, block) = (recalled.state.clone(), Arc::clone(&entry));
        let task = move |provider: Arc<dyn Provider>, context| {
            let request = ReadRequest {
                state: recalled.state,
                private: recalled.own,
            };
            async move { block.block(&*provider).read(&context, request).await }.boxed()
        };
        let mut answer = self.run("ReadResource", &request.type_name, task).await?;
        entry.clean_state(&mut answer.state);
        let new_identity = entry.identity(&*self.provider, &answer.state)?;
        let private = self.client.store(&entry, &mut answer.state, answer.private, &[&before]);
        Ok(read_resource::Response {
            new_state: Some(entry.encode("state that was read", &answer.state)?),
            private: private.into(),
            new_identity,
            diagnostics: wire::diagnostics(answer.diagnostics),
            deferred: None,
        })
    }

    pub(super) async fn plan(
        &self,
        request: plan_resource_change::Request,
    ) -> Result<plan_resource_change::Response, Diagnostics> {
        let entry = self.catalog.resource(&request.type_name)?;
        self.hears(request.client_capabilities);
        let stored = entry.decode("prior state", request.prior_state.as_ref())?;
        let mut proposed = entry.decode("proposed state", request.proposed_new_state.as_ref())?;
        let config = entry.decode("configuration", request.config.as_ref())?;
        let schema = &entry.schema;
        self.client
            .leaves_out(remembered::are_left_out(schema, &config, &proposed));
        let recalled = remembered::recall(schema, stored.clone(), &request.prior_private);
        let (mut prior, private) = (recalled.state, recalled.own);
        let block = Arc::clone(&entry);
        if proposed.is_null() {
            self.look_for_another_run();
            if let Some(name) = recalled.missing {
                return Err(entry.not_remembered(name).into());
            }
            let kept = remembered::hide(schema, &mut prior.clone());
            let task = move |provider: Arc<dyn Provider>, context| {
                async move { block.block(&*provider).plan_destroy(&context, &prior, private).await }.boxed()
            };
            let (private, diagnostics) = self.run("PlanResourceChange", &request.type_name, task).await?;
            return Ok(plan_resource_change::Response {
                planned_state: request.proposed_new_state,
                planned_private: remembered::seal(&kept, &private).into(),
                diagnostics: wire::diagnostics(diagnostics),
                ..Default::default()
            });
        }
        // `ignore_changes` leaves the configuration with what the state has: null.
        let config = remembered::with(schema, config, &prior);
        remembered::take_from_configuration(schema, &mut proposed, &config);
        if recalled.missing.is_some() {
            // The text for it is null in the state, so there is something to change, and the change puts the value in its place.
            remembered::take_from_configuration(schema, &mut prior, &config.unknown_as_null());
        }
        // A delete that belongs to a replacement gets what the plan of the create gives.
        let kept = if prior.is_null() {
            recalled.kept
        } else {
            remembered::hide(schema, &mut prior.clone())
        };
        let planned = plan::propose(schema, &prior, proposed, &config);
        let before = prior.clone();
        let change = PlanRequest {
            prior,
            planned,
            config,
            private,
        };
        let defers = entry.block(&*self.provider).defers(&change);
        if let Some(deferred) = deferred(request.client_capabilities.as_ref(), defers) {
            let (mut planned, private) = (change.planned, change.private);
            self.client.show(&entry, &mut planned, &before);
            return Ok(plan_resource_change::Response {
                planned_state: Some(entry.encode("planned state", &planned)?),
                planned_private: remembered::seal(&kept, &private).into(),
                deferred: Some(deferred),
                ..Default::default()
            });
        }
        let task = move |provider: Arc<dyn Provider>, context| {
            async move { block.block(&*provider).plan(&context, change).await }.boxed()
        };
        let mut answer = self.run("PlanResourceChange", &request.type_name, task).await?;
        plan::null_write_only(&schema.attributes, &mut answer.planned);
        text::clean_computed(&schema.attributes, &mut answer.planned);
        let mut requires_replace = plan::replacements(schema, &before, &answer.planned);
        for path in answer.requires_replace {
            if !before.is_null() && !requires_replace.contains(&path) {
                requires_replace.push(path);
            }
        }
        let planned_identity = entry.identity(&*self.provider, &answer.planned)?;
        self.client.show(&entry, &mut answer.planned, &before);
        remembered::leave_carried(schema, &stored, &mut answer.planned);
        let visible = |path| self.client.visible(&entry, path);
        Ok(plan_resource_change::Response {
            planned_state: Some(entry.encode("planned state", &answer.planned)?),
            requires_replace: requires_replace
                .into_iter()
                .map(visible)
                .map(|path| wire::path(&path))
                .collect(),
            planned_private: remembered::seal(&kept, &answer.private).into(),
            planned_identity,
            diagnostics: wire::diagnostics(answer.diagnostics),
            deferred: None,
        })
    }

    pub(super) async fn apply(
        &self,
        request: apply_resource_change::Request,
    ) -> Result<apply_resource_change::Response, Diagnostics> {
        let entry = self.catalog.resource(&request.type_name)?;
        let stored = entry.decode("prior state", request.prior_state.as_ref())?;
        let mut planned = entry.decode("planned state", request.planned_state.as_ref())?;
        let config = entry.decode("configuration", request.config.as_ref())?;
        let left_out = remembered::are_left_out(&entry.schema, &config, &planned);
        self.client.leaves_out(left_out);
        let recalled = remembered::recall(&entry.schema, stored, &request.planned_private);
        let (mut prior, private) = (recalled.state, recalled.own);
        let config = if planned.is_null() {
            config
        } else {
            remembered::with(&entry.schema, config, &prior)
        };
        remembered::take_from_configuration(&entry.schema, &mut planned, &config);
        match recalled.missing {
            Some(name) if planned.is_null() => return Err(entry.not_remembered(name).into()),
            Some(_) => remembered::take_from_configuration(&entry.schema, &mut prior, &config),
            None => {}
        }
        let (before, wish, own) = (prior.clone(), planned.clone(), private.clone());
        // What is kept if the block panics: for a create what was planned, for it may be there.
        let fallback = if prior.is_null() {
            planned.clone()
        } else {
            prior.clone()
        };
        let deleting = planned.is_null();
        let block = Arc::clone(&entry);
        let task = move |provider: Arc<dyn Provider>, context| {
            let (creating, change) = (
                prior.is_null(),
                ApplyRequest {
                    prior,
                    planned,
                    config,
                    private,
                },
            );
            async move {
                let resource = block.block(&*provider);
                match (creating, deleting) {
                    (_, true) => resource.delete(&context, change).await,
                    (true, false) => resource.create(&context, change).await,
                    (false, false) => resource.update(&context, change).await,
                }
            }
            .boxed()
        };
        let change = self.changes.begin();
        let answer = self.run("ApplyResourceChange", &request.type_name, task).await;
        drop(change);
        let mut answer = answer.unwrap_or_else(|bug| ApplyResponse {
            state: fallback,
            private: own,
            diagnostics: bug.into(),
        });
        let unknown = entry.clean_state(&mut answer.state);
        if !unknown.is_empty() && !answer.diagnostics.has_errors() {
            let paths: Vec<String> = unknown.iter().map(ToString::to_string).collect();
            answer.diagnostics.push(Diagnostic::error(
                format!("{}: values are still unknown after apply", entry.name),
                format!(
                    "This is a bug of the provider; please report it. Unknown are: {}.",
                    paths.join(", ")
                ),
            ));
        }
        let new_identity = entry.identity(&*self.provider, &answer.state)?;
        let private = self
            .client
            .store(&entry, &mut answer.state, answer.private, &[&wish, &before]);
        Ok(apply_resource_change::Response {
            new_state: Some(entry.encode("new state", &answer.state)?),
            private: private.into(),
            new_identity,
            diagnostics: wire::diagnostics(answer.diagnostics),
        })
    }

    pub(super) fn generate(
        &self,
        request: &generate_resource_config::Request,
    ) -> Result<pb::DynamicValue, Diagnostics> {
        let entry = self.catalog.resource(&request.type_name)?;
        let state = entry.decode("state", request.state.as_ref())?;
        let state = self
            .client
            .recall(&entry, remembered::recall(&entry.schema, state, &[]).state);
        entry.encode("configuration", &plan::configuration_of(&entry.schema, &state))
    }

    pub(super) async fn import(
        &self,
        request: import_resource_state::Request,
    ) -> Result<import_resource_state::Response, Diagnostics> {
        let entry = self.catalog.resource(&request.type_name)?;
        self.hears(request.client_capabilities);
        if let Some(deferred) = deferred(request.client_capabilities.as_ref(), self.provider.defers()) {
            return Ok(import_resource_state::Response {
                deferred: Some(deferred),
                ..Default::default()
            });
        }
        let identity = request.identity.and_then(|data| data.identity_data);
        let identity = decode_optional(identity.as_ref(), &entry.identity_type)
            .map_err(|error| misfit(entry.name, "identity", &error))?;
        let id = Some(request.id).filter(|id| !id.is_empty());
        let said = id.clone().unwrap_or_else(|| "that identity".into());
        let block = Arc::clone(&entry);
        let task = move |provider: Arc<dyn Provider>, context| {
            async move {
                block
                    .block(&*provider)
                    .import(&context, ImportRequest { id, identity })
                    .await
            }
            .boxed()
        };
        let mut answer = self.run("ImportResourceState", &request.type_name, task).await?;
        entry.clean_state(&mut answer.state);
        let identity = entry.identity(&*self.provider, &answer.state)?;
        let private = self.client.store(&entry, &mut answer.state, answer.private, &[]);
        if answer.state.is_null() && !answer.diagnostics.has_errors() {
            answer.diagnostics.push(Diagnostic::error(
                format!("{}: nothing to import", entry.name),
                format!("There is nothing with {said}."),
            ));
        }
        let imported = if answer.diagnostics.has_errors() {
            Vec::new()
        } else {
            vec![import_resource_state::ImportedResource {
                type_name: entry.name.to_owned(),
                state: Some(entry.encode("imported state", &answer.state)?),
                private: private.into(),
                identity,
            }]
        };
        Ok(import_resource_state::Response {
            imported_resources: imported,
            diagnostics: wire::diagnostics(answer.diagnostics),
            deferred: None,
        })
    }
}
