//! The provider's blocks by name, with their schemas worked out once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::plugin::block::{DataSource, Function, Provider, Resource};
use crate::plugin::codec::attributes_type;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::schema::{Attribute, Schema, Type};

/// All blocks of a provider.
pub(super) struct Catalog {
    pub(super) provider: Schema,
    pub(super) provider_type: Type,
    pub(super) resources: HashMap<&'static str, Arc<ResourceEntry>>,
    pub(super) data_sources: HashMap<&'static str, Arc<DataSourceEntry>>,
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

/// A data source.
pub(super) struct DataSourceEntry {
    position: usize,
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
        let data_sources = provider.data_sources().iter().enumerate();
        let functions = provider.functions().iter().enumerate();
        Self {
            provider_type: attributes_type(&schema.attributes),
            provider: schema,
            resources: resources
                .map(|(at, one)| (one.name(), Arc::new(ResourceEntry::of(at, &**one))))
                .collect(),
            data_sources: data_sources
                .map(|(at, one)| (one.name(), Arc::new(DataSourceEntry::of(at, &**one))))
                .collect(),
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

    pub(super) fn data_source(&self, name: &str) -> Result<Arc<DataSourceEntry>, Diagnostics> {
        self.data_sources
            .get(name)
            .cloned()
            .ok_or_else(|| absent("data source", name))
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

impl DataSourceEntry {
    fn of(position: usize, data_source: &dyn DataSource) -> Self {
        let schema = data_source.schema();
        Self {
            position,
            name: data_source.name(),
            r#type: attributes_type(&schema.attributes),
            schema,
        }
    }

    /// The data source itself.
    pub(super) fn block<'a>(&self, provider: &'a dyn Provider) -> &'a dyn DataSource {
        &*provider.data_sources()[self.position]
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
