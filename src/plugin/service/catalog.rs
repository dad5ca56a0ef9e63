//! The provider's blocks by name, with their schemas worked out once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::plugin::block::{Action, DataSource, Ephemeral, Function, List, Provider, Resource};
use crate::plugin::codec::{attributes_type, decode_optional};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::proto::tfplugin6 as pb;
use crate::plugin::schema::{Attribute, Kind, Presence, Schema, Type};
use crate::plugin::value::Value;

use super::misfit;

/// The blocks of a kind by their names.
pub(super) type ByName<B> = HashMap<&'static str, Arc<Entry<B>>>;

/// All blocks of a provider.
pub(super) struct Catalog {
    pub(super) provider: Schema,
    pub(super) provider_type: Type,
    pub(super) resources: HashMap<&'static str, Arc<ResourceEntry>>,
    pub(super) data_sources: ByName<dyn DataSource>,
    pub(super) actions: ByName<dyn Action>,
    pub(super) ephemerals: ByName<dyn Ephemeral>,
    pub(super) lists: ByName<dyn List>,
    pub(super) functions: HashMap<&'static str, FunctionEntry>,
}

/// A managed resource.
pub(super) struct ResourceEntry {
    position: usize,
    pub(super) name: &'static str,
    pub(super) schema: Schema,
    pub(super) r#type: Type,
    pub(super) identity: Vec<Attribute>,
    pub(super) identity_type: Type,
}

/// A block of which the protocol wants nothing but a name and a schema: a data source, an action, an ephemeral resource,
/// a list resource.
pub(super) struct Entry<B: ?Sized + 'static> {
    position: usize,
    all: fn(&dyn Provider) -> &[Box<B>],
    pub(super) name: &'static str,
    pub(super) schema: Schema,
    pub(super) r#type: Type,
}

/// A function.
#[derive(Clone)]
pub(super) struct FunctionEntry {
    position: usize,
    pub(super) parameters: Vec<Type>,
    pub(super) returns: Type,
}

impl Catalog {
    pub(super) fn of(provider: &dyn Provider) -> Self {
        let schema = provider.schema();
        let resources = provider.resources().iter().enumerate();
        let functions = provider.functions().iter().enumerate();
        Self {
            provider_type: attributes_type(&schema.attributes),
            provider: schema,
            resources: resources
                .map(|(at, one)| (one.name(), Arc::new(ResourceEntry::of(at, &**one))))
                .collect(),
            data_sources: by_name(provider, |all| all.data_sources(), |one| (one.name(), one.schema())),
            actions: by_name(
                provider,
                |all| all.actions(),
                |one| (one.name(), optional(one.schema())),
            ),
            ephemerals: by_name(provider, |all| all.ephemerals(), |one| (one.name(), one.schema())),
            lists: by_name(provider, |all| all.lists(), |one| (one.name(), optional(one.schema()))),
            functions: functions
                .map(|(at, one)| (one.name(), FunctionEntry::of(at, &**one)))
                .collect(),
        }
    }

    pub(super) fn resource(&self, name: &str) -> Result<Arc<ResourceEntry>, Diagnostics> {
        self.resources
            .get(name)
            .cloned()
            .ok_or_else(|| absent("resource", name))
    }

    pub(super) fn data_source(&self, name: &str) -> Result<Arc<Entry<dyn DataSource>>, Diagnostics> {
        find(&self.data_sources, "data source", name)
    }

    pub(super) fn action(&self, name: &str) -> Result<Arc<Entry<dyn Action>>, Diagnostics> {
        find(&self.actions, "action", name)
    }

    pub(super) fn ephemeral(&self, name: &str) -> Result<Arc<Entry<dyn Ephemeral>>, Diagnostics> {
        find(&self.ephemerals, "ephemeral resource", name)
    }

    pub(super) fn list(&self, name: &str) -> Result<Arc<Entry<dyn List>>, Diagnostics> {
        find(&self.lists, "list resource", name)
    }
}

fn find<B: ?Sized>(all: &ByName<B>, kind: &str, name: &str) -> Result<Arc<Entry<B>>, Diagnostics> {
    all.get(name).cloned().ok_or_else(|| absent(kind, name))
}

fn by_name<B: ?Sized>(
    provider: &dyn Provider,
    all: fn(&dyn Provider) -> &[Box<B>],
    facts: impl Fn(&B) -> (&'static str, Schema),
) -> ByName<B> {
    let entries = all(provider).iter().enumerate().map(|(position, one)| {
        let (name, schema) = facts(one);
        let entry = Entry {
            position,
            all,
            name,
            r#type: attributes_type(&schema.attributes),
            schema,
        };
        (name, Arc::new(entry))
    });
    entries.collect()
}

/// A schema of what computes nothing: a default is the provider's own business there.
fn optional(schema: Schema) -> Schema {
    fn all(attributes: Vec<Attribute>) -> Vec<Attribute> {
        attributes.into_iter().map(one).collect()
    }
    fn one(mut attribute: Attribute) -> Attribute {
        if attribute.presence == Presence::OptionalComputed {
            attribute.presence = Presence::Optional;
        }
        attribute.kind = match attribute.kind {
            Kind::Plain(r#type) => Kind::Plain(r#type),
            Kind::Single(nested) => Kind::Single(all(nested)),
            Kind::List(nested) => Kind::List(all(nested)),
            Kind::Set(nested) => Kind::Set(all(nested)),
            Kind::Map(nested) => Kind::Map(all(nested)),
        };
        attribute
    }
    Schema {
        attributes: all(schema.attributes),
        ..schema
    }
}

impl ResourceEntry {
    fn of(position: usize, resource: &dyn Resource) -> Self {
        let (schema, identity) = (resource.schema(), resource.identity());
        Self {
            position,
            name: resource.name(),
            r#type: attributes_type(&schema.attributes),
            identity_type: attributes_type(&identity),
            schema,
            identity,
        }
    }

    /// The resource itself.
    pub(super) fn block<'a>(&self, provider: &'a dyn Provider) -> &'a dyn Resource {
        &*provider.resources()[self.position]
    }
}

impl<B: ?Sized> Entry<B> {
    /// The block itself.
    pub(super) fn block<'a>(&self, provider: &'a dyn Provider) -> &'a B {
        &(self.all)(provider)[self.position]
    }

    /// A configuration as it came.
    pub(super) fn config(&self, message: Option<&pb::DynamicValue>) -> Result<Value, Diagnostics> {
        decode_optional(message, &self.r#type).map_err(|error| misfit(self.name, "configuration", &error))
    }
}

impl FunctionEntry {
    fn of(position: usize, function: &dyn Function) -> Self {
        Self {
            position,
            parameters: function.parameters().into_iter().map(|one| one.r#type).collect(),
            returns: function.returns(),
        }
    }

    /// The function itself.
    pub(super) fn block<'a>(&self, provider: &'a dyn Provider) -> &'a dyn Function {
        &*provider.functions()[self.position]
    }
}

/// The error for a block that the provider doesn't have.
pub(super) fn absent(kind: &str, name: &str) -> Diagnostics {
    Diagnostic::error(
        format!("Unknown {kind} type {name:?}"),
        format!("This version of the provider has no {kind} of this name. A newer version may: see its documentation."),
    )
    .into()
}
