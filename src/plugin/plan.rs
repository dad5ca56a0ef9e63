//! What the framework owes to every block: defaults, what becomes unknown, what makes a new resource, and that
//! write-only values stay out of plan and state. Pure.

use super::codec::attributes_type;
use super::diagnostics::{Diagnostic, Diagnostics};
use super::path::Path;
use super::schema::{Attribute, Kind, Presence, Schema, Type};
use super::value::Value;

/// The plan as far as the schema tells.
///
/// `proposed` is Terraform's merge of configuration and prior state. Defaults stand where the configuration has
/// null; if that leaves any difference to `prior`, what the provider computes becomes unknown (unless it keeps its
/// state). Without a difference the plan *is* the prior state.
#[must_use]
pub fn propose(schema: &Schema, prior: &Value, proposed: Value, config: &Value) -> Value {
    let mut planned = proposed;
    fill_defaults(&schema.attributes, &mut planned, config);
    null_write_only(&schema.attributes, &mut planned);
    if same(&attributes_type(&schema.attributes), prior, &planned) {
        return prior.clone();
    }
    mark_unknown(&schema.attributes, &mut planned, config, prior);
    planned
}

/// A configuration with the schema's defaults where it has null, for blocks that have no plan.
#[must_use]
pub fn with_defaults(schema: &Schema, config: &Value) -> Value {
    let mut filled = config.clone();
    fill_defaults(&schema.attributes, &mut filled, config);
    filled
}

pub(super) fn fill_defaults(attributes: &[Attribute], planned: &mut Value, config: &Value) {
    let Value::Map(object) = planned else { return };
    for one in attributes {
        let slot = object.entry(one.name.to_owned()).or_default();
        let given = match (config.get(one.name), &one.default) {
            (Value::Null, Some(default)) => {
                *slot = default.clone();
                default
            }
            (given, _) => given,
        };
        for_each_nested(
            &one.kind,
            slot,
            given,
            &Value::Null,
            &mut |attributes, planned, config, _| {
                fill_defaults(attributes, planned, config);
            },
        );
    }
}

fn mark_unknown(attributes: &[Attribute], planned: &mut Value, config: &Value, prior: &Value) {
    let Value::Map(object) = planned else { return };
    for one in attributes {
        let slot = object.entry(one.name.to_owned()).or_default();
        let (given, before) = (config.get(one.name), prior.get(one.name));
        let computed = matches!(one.presence, Presence::Computed | Presence::OptionalComputed);
        if given.is_null() && computed && one.default.is_none() {
            *slot = if one.use_state && !before.is_null() {
                before.clone()
            } else {
                Value::Unknown
            };
        } else {
            let given = if given.is_null() {
                one.default.as_ref().unwrap_or(given)
            } else {
                given
            };
            for_each_nested(&one.kind, slot, given, before, &mut mark_unknown);
        }
    }
}

/// What is done to one nested object: its attributes, its plan, its configuration, its prior state.
type OnNested<'a> = dyn FnMut(&[Attribute], &mut Value, &Value, &Value) + 'a;

/// Calls `act` with each nested object of `planned` and those that belong to it in `config` and `prior`. Objects
/// that the configuration doesn't have are passed over.
fn for_each_nested(kind: &Kind, planned: &mut Value, config: &Value, prior: &Value, act: &mut OnNested<'_>) {
    match (kind, planned) {
        (Kind::Single(attributes), planned) if !config.is_null() => act(attributes, planned, config, prior),
        (Kind::Map(attributes), Value::Map(entries)) => {
            for (key, planned) in entries {
                if !config.get(key).is_null() {
                    act(attributes, planned, config.get(key), prior.get(key));
                }
            }
        }
        (Kind::List(attributes), Value::List(items)) => {
            for (at, planned) in items.iter_mut().enumerate() {
                if let Some(config) = config.as_list().and_then(|items| items.get(at)) {
                    let before = prior.as_list().and_then(|items| items.get(at)).unwrap_or(&Value::Null);
                    act(attributes, planned, config, before);
                }
            }
        }
        (Kind::Set(attributes), Value::List(items)) => {
            // Elements of a set have no names: they belong together where they agree in what was configured.
            for planned in items {
                if let Some(config) = config
                    .as_list()
                    .and_then(|all| all.iter().find(|one| agrees(one, planned)))
                {
                    let before = prior
                        .as_list()
                        .and_then(|all| all.iter().find(|one| agrees(config, one)));
                    act(attributes, planned, config, before.unwrap_or(&Value::Null));
                }
            }
        }
        _ => {}
    }
}

/// Whether `value` is what `config` asks for, wherever that asks for something.
fn agrees(config: &Value, value: &Value) -> bool {
    match (config, value) {
        (Value::Null, _) => true,
        (Value::Map(entries), Value::Map(_)) => entries.iter().all(|(name, config)| agrees(config, value.get(name))),
        (Value::List(configs), Value::List(values)) => {
            configs.len() == values.len() && configs.iter().zip(values).all(|(config, value)| agrees(config, value))
        }
        _ => config == value,
    }
}

/// Whether two values of a type are the same; the order in sets doesn't count.
#[must_use]
pub fn same(r#type: &Type, one: &Value, other: &Value) -> bool {
    match (r#type, one, other) {
        (Type::List(of), Value::List(ones), Value::List(others)) => {
            ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| same(of, one, other))
        }
        (Type::Tuple(of), Value::List(ones), Value::List(others)) => {
            ones.len() == others.len()
                && of
                    .iter()
                    .zip(ones.iter().zip(others))
                    .all(|(of, (one, other))| same(of, one, other))
        }
        (Type::Set(of), Value::List(ones), Value::List(others)) => {
            let mut left: Vec<&Value> = others.iter().collect();
            ones.len() == others.len()
                && ones
                    .iter()
                    .all(|one| match left.iter().position(|other| same(of, one, other)) {
                        Some(at) => {
                            left.swap_remove(at);
                            true
                        }
                        None => false,
                    })
        }
        (Type::Map(of), Value::Map(ones), Value::Map(others)) => {
            ones.len() == others.len()
                && ones
                    .iter()
                    .all(|(key, one)| others.get(key).is_some_and(|other| same(of, one, other)))
        }
        (Type::Object(of), Value::Map(_), Value::Map(_)) => {
            of.iter().all(|(name, of)| same(of, one.get(name), other.get(name)))
        }
        _ => one == other,
    }
}

/// The attributes whose change from `prior` to `planned` makes a new resource, by the schema's marks.
#[must_use]
pub fn replacements(schema: &Schema, prior: &Value, planned: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    if !prior.is_null() && !planned.is_null() {
        collect_replacements(&schema.attributes, prior, planned, &Path::root(), &mut found);
    }
    found
}

fn collect_replacements(attributes: &[Attribute], prior: &Value, planned: &Value, path: &Path, found: &mut Vec<Path>) {
    for one in attributes {
        let (before, after) = (prior.get(one.name), planned.get(one.name));
        let here = path.attribute(one.name);
        let changed = || !same(&attributes_type(std::slice::from_ref(one)), prior, planned);
        if one.requires_replace {
            if changed() {
                found.push(here);
            }
            continue;
        }
        match &one.kind {
            Kind::Plain(_) => {}
            Kind::Single(attributes) => collect_replacements(attributes, before, after, &here, found),
            Kind::Map(attributes) => {
                let keys = |value: &Value| {
                    value
                        .as_map()
                        .into_iter()
                        .flatten()
                        .map(|(key, _)| key.clone())
                        .collect()
                };
                let mut all: Vec<String> = keys(before);
                all.extend(keys(after).into_iter().filter(|key| before.get(key).is_null()));
                for key in all {
                    collect_replacements(attributes, before.get(&key), after.get(&key), &here.key(&key), found);
                }
            }
            Kind::List(attributes) => {
                let items = |value: &Value| value.as_list().map(<[Value]>::to_vec).unwrap_or_default();
                let (mut before, mut after) = (items(before), items(after));
                let length = before.len().max(after.len());
                before.resize(length, Value::Null);
                after.resize(length, Value::Null);
                for ((before, after), at) in before.iter().zip(&after).zip(0..) {
                    collect_replacements(attributes, before, after, &here.index(at), found);
                }
            }
            Kind::Set(attributes) => {
                if any_attribute(attributes, &|one| one.requires_replace) && changed() {
                    found.push(here);
                }
            }
        }
    }
}

fn any_attribute(attributes: &[Attribute], test: &dyn Fn(&Attribute) -> bool) -> bool {
    attributes.iter().any(|one| {
        test(one)
            || match &one.kind {
                Kind::Plain(_) => false,
                Kind::Single(nested) | Kind::List(nested) | Kind::Set(nested) | Kind::Map(nested) => {
                    any_attribute(nested, test)
                }
            }
    })
}

/// Takes write-only values out, at any depth.
pub fn null_write_only(attributes: &[Attribute], value: &mut Value) {
    null_where(attributes, value, &|one, _| one.write_only);
}

/// A configuration that a state could come from: nothing that is computed only, nothing that a default says.
#[must_use]
pub fn configuration_of(schema: &Schema, state: &Value) -> Value {
    let mut config = state.clone();
    null_where(&schema.attributes, &mut config, &|one, value| {
        one.write_only
            || one.presence == Presence::Computed
            || one.deprecation.is_some()
            || one.default.as_ref() == Some(value)
    });
    config
}

/// Makes null, at any depth, what `which` says of an attribute and its value.
fn null_where(attributes: &[Attribute], value: &mut Value, which: &dyn Fn(&Attribute, &Value) -> bool) {
    let Value::Map(object) = value else { return };
    for one in attributes {
        let Some(slot) = object.get_mut(one.name) else { continue };
        if which(one, slot) {
            *slot = Value::Null;
            continue;
        }
        match (&one.kind, slot) {
            (Kind::Single(nested), slot) => null_where(nested, slot, which),
            (Kind::Map(nested), Value::Map(entries)) => {
                entries.values_mut().for_each(|entry| null_where(nested, entry, which));
            }
            (Kind::List(nested) | Kind::Set(nested), Value::List(items)) => {
                items.iter_mut().for_each(|item| null_where(nested, item, which));
            }
            _ => {}
        }
    }
}

/// An error for every write-only value in a configuration, for a Terraform that would store it.
#[must_use]
pub fn refuse_write_only(schema: &Schema, config: &Value) -> Diagnostics {
    let mut found = Diagnostics::new();
    collect_write_only(&schema.attributes, config, &Path::root(), &mut found);
    found
}

fn collect_write_only(attributes: &[Attribute], config: &Value, path: &Path, found: &mut Diagnostics) {
    for one in attributes {
        let (given, here) = (config.get(one.name), path.attribute(one.name));
        if one.write_only && !given.is_null() {
            let detail = format!(
                "{here} is write-only: it must not be stored, and this version of Terraform would store it. \
                 Use Terraform 1.11 or later (OpenTofu 1.11 or later), or leave the attribute out."
            );
            found.push(Diagnostic::error("Write-only attributes need Terraform 1.11", detail).at(here));
            continue;
        }
        match (&one.kind, given) {
            (Kind::Single(nested), given) => collect_write_only(nested, given, &here, found),
            (Kind::Map(nested), Value::Map(entries)) => {
                entries
                    .iter()
                    .for_each(|(key, entry)| collect_write_only(nested, entry, &here.key(key), found));
            }
            (Kind::List(nested) | Kind::Set(nested), Value::List(items)) => {
                items
                    .iter()
                    .zip(0..)
                    .for_each(|(item, at)| collect_write_only(nested, item, &here.index(at), found));
            }
            _ => {}
        }
    }
}

/// Makes what is unknown null, and tells where it was. State has no unknowns.
pub fn null_unknowns(value: &mut Value, path: &Path) -> Vec<Path> {
    match value {
        Value::Unknown => {
            *value = Value::Null;
            vec![path.clone()]
        }
        Value::Map(entries) => {
            // Whether a map or an object can't be seen here, and reads the same to the user.
            entries
                .iter_mut()
                .flat_map(|(name, value)| null_unknowns(value, &path.attribute(name)))
                .collect()
        }
        Value::List(items) => items
            .iter_mut()
            .zip(0..)
            .flat_map(|(item, at)| null_unknowns(item, &path.index(at)))
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
