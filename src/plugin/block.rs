//! What a provider and its blocks are to the protocol: the traits that blocks implement.

mod action;
mod ephemeral;
mod list;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::diagnostics::{Diagnostic, Diagnostics};
use super::path::Path;
use super::schema::{Attribute, Schema, Type};
use super::value::Value;

pub use action::{Action, Progress};
pub use ephemeral::{Ephemeral, Opened, Renewed};
pub use list::{Findings, Found, List, ListRequest};

/// What every request carries.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Cancelled when Terraform asks to stop: end at the next safe point and return the state reached.
    pub stop: CancellationToken,
}

/// Why something can only be planned in a later run. Terraform 1.15 waits only where it was built to try that out
/// (`-allow-deferral`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// Something in its configuration is not known yet.
    ConfigurationUnknown,
    /// Something in the provider's configuration is not known yet.
    ProviderUnknown,
    /// What it needs is not there yet.
    PrerequisiteAbsent,
}

/// A refresh of one resource.
pub struct ReadRequest {
    /// What the state holds.
    pub state: Value,
    /// What the block kept beside it.
    pub private: Vec<u8>,
}

/// The answer to a refresh.
pub struct ReadResponse {
    /// What is there now; null if it is gone.
    pub state: Value,
    /// To be kept beside it.
    pub private: Vec<u8>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// The wish to change one resource.
pub struct PlanRequest {
    /// The state before; null for a create.
    pub prior: Value,
    /// The plan as far as the schema tells; null for a delete.
    pub planned: Value,
    /// The configuration, with write-only values.
    pub config: Value,
    /// What the block kept beside the state.
    pub private: Vec<u8>,
}

/// What a block makes of a plan.
pub struct PlanResponse {
    /// The state after, with unknowns.
    pub planned: Value,
    /// Attributes whose change needs a new resource, beside those that the schema marks.
    pub requires_replace: Vec<Path>,
    /// To be given to apply.
    pub private: Vec<u8>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// A change to carry out.
pub struct ApplyRequest {
    /// The state before; null for a create.
    pub prior: Value,
    /// The state after, with unknowns; null for a delete.
    pub planned: Value,
    /// The configuration, with write-only values; null for a delete.
    pub config: Value,
    /// What plan gave.
    pub private: Vec<u8>,
}

/// What a change led to. State is kept even where there are errors.
pub struct ApplyResponse {
    /// The state reached; null if the resource does not exist (any more).
    pub state: Value,
    /// To be kept beside it.
    pub private: Vec<u8>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

impl ApplyResponse {
    /// Nothing was changed.
    pub fn refused(prior: Value, private: Vec<u8>, diagnostics: Diagnostics) -> Self {
        Self {
            state: prior,
            private,
            diagnostics,
        }
    }

    /// What a delete led to: nothing is left where there are no errors, and all of it where there are.
    pub fn deleted(prior: Value, private: Vec<u8>, diagnostics: Diagnostics) -> Self {
        let state = if diagnostics.has_errors() { prior } else { Value::Null };
        Self {
            state,
            private,
            diagnostics,
        }
    }
}

/// A resource that Terraform is to take over.
pub struct ImportRequest {
    /// The identifier that the user gave, where it was one.
    pub id: Option<String>,
    /// The identity that the user gave, where it was one.
    pub identity: Value,
}

/// What was found for an import.
pub struct ImportResponse {
    /// A state that the read after it completes.
    pub state: Value,
    /// To be kept beside it.
    pub private: Vec<u8>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

impl From<Result<(Value, Diagnostics), Diagnostics>> for ImportResponse {
    fn from(found: Result<(Value, Diagnostics), Diagnostics>) -> Self {
        let (state, diagnostics) = found.unwrap_or_else(|diagnostics| (Value::Null, diagnostics));
        Self {
            state,
            private: Vec::new(),
            diagnostics,
        }
    }
}

/// A managed resource.
#[async_trait]
pub trait Resource: Send + Sync {
    /// The full type name, such as `etcd_server`.
    fn name(&self) -> &'static str;

    /// Its schema.
    fn schema(&self) -> Schema;

    /// What of it identifies the thing that it stands for (Terraform 1.12 and later); empty where it has none.
    /// Required ones are in every identity; optional ones may be null, and may be for the import only.
    fn identity(&self) -> Vec<Attribute> {
        Vec::new()
    }

    /// The identity of a state. By default the attributes of the same names.
    fn identity_of(&self, state: &Value) -> Value {
        Value::Map(
            self.identity()
                .iter()
                .map(|one| (one.name.to_owned(), state.get(one.name).clone()))
                .collect(),
        )
    }

    /// Checks a configuration as far as it is known, without I/O.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Observes.
    async fn read(&self, context: &Context, request: ReadRequest) -> ReadResponse;

    /// Whether it can only be planned later. Asked for where Terraform can wait; elsewhere `plan` is asked at once.
    fn defers(&self, request: &PlanRequest) -> Option<Deferral> {
        let _ = request;
        None
    }

    /// Refines a plan of a create or an update.
    async fn plan(&self, context: &Context, request: PlanRequest) -> PlanResponse {
        let _ = context;
        PlanResponse {
            planned: request.planned,
            requires_replace: Vec::new(),
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    /// Says what a delete would mean, and what is to be given to it.
    async fn plan_destroy(&self, context: &Context, prior: &Value, private: Vec<u8>) -> (Vec<u8>, Diagnostics) {
        let _ = (context, prior);
        (private, Diagnostics::new())
    }

    /// Makes it.
    async fn create(&self, context: &Context, request: ApplyRequest) -> ApplyResponse;

    /// Changes it.
    async fn update(&self, context: &Context, request: ApplyRequest) -> ApplyResponse;

    /// Takes it away.
    async fn delete(&self, context: &Context, request: ApplyRequest) -> ApplyResponse;

    /// Finds one that exists.
    async fn import(&self, context: &Context, request: ImportRequest) -> ImportResponse {
        let _ = (context, request);
        ImportResponse {
            state: Value::Null,
            private: Vec::new(),
            diagnostics: Diagnostic::error(
                format!("{} cannot be imported", self.name()),
                "This version of the provider has no import for it. Create it with `terraform apply` instead.",
            )
            .into(),
        }
    }

    /// Brings state of an older schema version to this one. The default drops attributes that are gone.
    ///
    /// # Errors
    /// If it can't be brought over, with what to do.
    fn upgrade(&self, version: i64, state: serde_json::Value) -> Result<serde_json::Value, Diagnostic> {
        let _ = version;
        Ok(state)
    }
}

/// What a data source read.
pub struct DataResponse {
    /// The configuration with everything that was computed. Nothing in it may be unknown.
    pub state: Value,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// A data source: something to be looked at, and never changed.
#[async_trait]
pub trait DataSource: Send + Sync {
    /// The full type name, such as `etcd_cluster_status`.
    fn name(&self) -> &'static str;

    /// Its schema.
    fn schema(&self) -> Schema;

    /// Checks a configuration as far as it is known, without I/O.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Looks. The configuration is wholly known, with defaults where it had null.
    async fn read(&self, context: &Context, config: Value) -> DataResponse;
}

/// A parameter of a function.
pub struct Parameter {
    /// Its name in messages.
    pub name: &'static str,
    /// Its type.
    pub r#type: Type,
    /// What it means, in Markdown.
    pub description: &'static str,
}

/// Why a function call failed.
#[derive(Debug)]
pub struct FunctionError {
    /// What is wrong.
    pub message: String,
    /// The argument that it is about, counted from 0.
    pub argument: Option<i64>,
}

/// A function of the provider (Terraform 1.8 and later).
pub trait Function: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// One line.
    fn summary(&self) -> &'static str;
    /// What it does, in Markdown.
    fn description(&self) -> &'static str;
    /// Its parameters.
    fn parameters(&self) -> Vec<Parameter>;
    /// The type of what it returns.
    fn returns(&self) -> Type;
    /// Computes. Arguments are known unless nested.
    ///
    /// # Errors
    /// If the arguments make no sense.
    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError>;
}

/// A provider: its own configuration and its blocks.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The schema of the provider block.
    fn schema(&self) -> Schema;

    /// Checks the provider's configuration as far as it is known.
    async fn validate(&self, config: &Value) -> Diagnostics;

    /// Takes the configuration; called once, before any resource is planned, read or applied.
    /// Values may be unknown while planning.
    async fn configure(&self, context: &Context, config: &Value) -> Diagnostics;

    /// Whether what it was configured with is not enough to look at anything yet. Where Terraform can wait, data are read and imports made later
    /// then; elsewhere, and for everything else, the blocks are asked at once.
    fn defers(&self) -> Option<Deferral> {
        None
    }

    /// A plan begins, after changes that this process has carried out. Terraform does not say so, and has one process do several runs where a
    /// test (`terraform test`) has the provider's configuration.
    fn new_run(&self) {}

    /// Its managed resources.
    fn resources(&self) -> &[Box<dyn Resource>];

    /// Its data sources.
    fn data_sources(&self) -> &[Box<dyn DataSource>];

    /// Its functions.
    fn functions(&self) -> &[Box<dyn Function>];

    /// Its actions.
    fn actions(&self) -> &[Box<dyn Action>] {
        &[]
    }

    /// Its ephemeral resources.
    fn ephemerals(&self) -> &[Box<dyn Ephemeral>] {
        &[]
    }

    /// Its list resources.
    fn lists(&self) -> &[Box<dyn List>] {
        &[]
    }
}
