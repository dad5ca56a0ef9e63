//! Schemas, paths and diagnostics as the protocol's messages.

use bytes::Bytes;

use super::block::{Function, Parameter};
use super::codec::type_to_json;
use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::path::{Path, Step};
use super::proto::tfplugin6 as pb;
use super::proto::tfplugin6::attribute_path::step::Selector;
use super::proto::tfplugin6::schema::object::NestingMode;
use super::schema::{Attribute, Kind, Presence, Schema, Type};
use super::text;

/// The message of a schema.
#[must_use]
pub fn schema(schema: &Schema) -> pb::Schema {
    pb::Schema {
        version: schema.version,
        block: Some(pb::schema::Block {
            version: schema.version,
            attributes: schema.attributes.iter().map(attribute).collect(),
            description: schema.description.to_owned(),
            description_kind: pb::StringKind::Markdown.into(),
            ..Default::default()
        }),
    }
}

fn attribute(one: &Attribute) -> pb::schema::Attribute {
    let nested = |attributes: &[Attribute], nesting: NestingMode| {
        (
            Bytes::new(),
            Some(pb::schema::Object {
                attributes: attributes.iter().map(attribute).collect(),
                nesting: nesting.into(),
            }),
        )
    };
    let (r#type, nested_type) = match &one.kind {
        Kind::Plain(r#type) => (type_bytes(r#type), None),
        Kind::Single(attributes) => nested(attributes, NestingMode::Single),
        Kind::List(attributes) => nested(attributes, NestingMode::List),
        Kind::Set(attributes) => nested(attributes, NestingMode::Set),
        Kind::Map(attributes) => nested(attributes, NestingMode::Map),
    };
    pb::schema::Attribute {
        name: one.name.to_owned(),
        r#type,
        nested_type,
        description: one.description.to_owned(),
        description_kind: pb::StringKind::Markdown.into(),
        required: one.presence == Presence::Required,
        optional: matches!(one.presence, Presence::Optional | Presence::OptionalComputed),
        computed: matches!(one.presence, Presence::Computed | Presence::OptionalComputed),
        sensitive: one.sensitive,
        write_only: one.write_only || one.remembered.is_some(),
        deprecated: one.deprecation.is_some(),
        deprecation_message: one.deprecation.unwrap_or_default().to_owned(),
    }
}

/// The message of a resource's identity; `None` where it has none.
#[must_use]
pub fn identity_schema(attributes: &[Attribute]) -> Option<pb::ResourceIdentitySchema> {
    let one = |one: &Attribute| pb::resource_identity_schema::IdentityAttribute {
        name: one.name.to_owned(),
        r#type: match &one.kind {
            Kind::Plain(r#type) => type_bytes(r#type),
            // Identities are of primitive types; Terraform refuses anything else by name.
            _ => type_bytes(&Type::Dynamic),
        },
        required_for_import: one.presence == Presence::Required,
        optional_for_import: one.presence != Presence::Required,
        description: one.description.to_owned(),
    };
    (!attributes.is_empty()).then(|| pb::ResourceIdentitySchema {
        version: 0,
        identity_attributes: attributes.iter().map(one).collect(),
    })
}

/// The message of a function.
#[must_use]
pub fn function(function: &dyn Function) -> pb::Function {
    let parameter = |one: &Parameter| pb::function::Parameter {
        name: one.name.to_owned(),
        r#type: type_bytes(&one.r#type),
        description: one.description.to_owned(),
        description_kind: pb::StringKind::Markdown.into(),
        ..Default::default()
    };
    pb::Function {
        parameters: function.parameters().iter().map(parameter).collect(),
        r#return: Some(pb::function::Return {
            r#type: type_bytes(&function.returns()),
        }),
        summary: function.summary().to_owned(),
        description: function.description().to_owned(),
        description_kind: pb::StringKind::Markdown.into(),
        ..Default::default()
    }
}

fn type_bytes(r#type: &Type) -> Bytes {
    type_to_json(r#type).to_string().into()
}

/// The message of a path.
#[must_use]
pub fn path(path: &Path) -> pb::AttributePath {
    let step = |step: &Step| pb::attribute_path::Step {
        selector: Some(match step {
            Step::Attribute(name) => Selector::AttributeName(name.clone()),
            Step::Key(key) => Selector::ElementKeyString(key.clone()),
            Step::Index(index) => Selector::ElementKeyInt(*index),
        }),
    };
    pb::AttributePath {
        steps: path.steps().iter().map(step).collect(),
    }
}

/// The most diagnostics of one answer.
const MOST: usize = 100;

/// The messages of diagnostics, of text alone ([`super::text`]) and of bounded length.
#[must_use]
pub fn diagnostics(diagnostics: Diagnostics) -> Vec<pb::Diagnostic> {
    let mut all: Vec<Diagnostic> = diagnostics.into_iter().collect();
    if all.len() > MOST {
        // An error that is left out is one still: without any Terraform would go on.
        let left: Vec<Diagnostic> = all.drain(MOST - 1..).collect();
        let errors = left.iter().filter(|one| one.severity == Severity::Error).count();
        let summary = format!("{} more messages are left out, {errors} errors among them", left.len());
        let more = Diagnostic::error(summary, "Mend what is said first, and run it again.");
        let severity = if errors > 0 { Severity::Error } else { Severity::Warning };
        all.push(Diagnostic { severity, ..more });
    }
    all.into_iter().map(diagnostic).collect()
}

/// The message of a function's failure.
#[must_use]
pub fn function_error(text: &str, argument: Option<i64>) -> pb::FunctionError {
    pb::FunctionError {
        text: text::lines(text),
        function_argument: argument,
    }
}

fn diagnostic(one: Diagnostic) -> pb::Diagnostic {
    let severity = match one.severity {
        Severity::Error => pb::diagnostic::Severity::Error,
        Severity::Warning => pb::diagnostic::Severity::Warning,
    };
    let (mut detail, mut attribute) = (one.detail, None);
    if let Some(whole) = &one.path {
        let shown = whole.shown();
        if *whole != shown && !whole.is_named_in(&one.summary) && !whole.is_named_in(&detail) {
            let gap = if detail.is_empty() { "" } else { "\n\n" };
            detail.push_str(&format!("{gap}This is about {whole}."));
        }
        attribute = Some(path(&shown));
    }
    pb::Diagnostic {
        severity: severity.into(),
        summary: text::line(&one.summary),
        detail: text::lines(&detail),
        attribute,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts() -> impl Strategy<Value = String> {
        prop::collection::vec(any::<char>(), 0..60).prop_map(|all| all.into_iter().collect())
    }

    proptest! {
        #[test]
        fn every_diagnostic_is_text(all in prop::collection::vec((any::<bool>(), texts(), texts(), texts()), 0..130)) {
            let given: Diagnostics = { all.into_iter() }
                .map(|(error, summary, detail, key)| {
                    let one = if error { Diagnostic::error(summary, detail) } else { Diagnostic::warning(summary, detail) };
                    one.at(Path::of("servers").key(&key).attribute("port"))
                })
                .collect();
            let failed = given.has_errors();
            let messages = diagnostics(given);
            prop_assert!(messages.len() <= MOST);
            let is_error = |one: &pb::Diagnostic| one.severity == i32::from(pb::diagnostic::Severity::Error);
            prop_assert_eq!(messages.iter().any(is_error), failed);
            for one in messages {
                prop_assert!(one.summary == text::line(&one.summary) && !one.summary.contains('\n'));
                prop_assert_eq!(&one.detail, &text::clean(&one.detail));
                prop_assert!(!one.detail.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\t')));
            }
            let failure = function_error("a\u{1b}\nError: b", Some(1));
            prop_assert_eq!(failure.text, "a\u{fffd}\n  Error: b");
        }
    }
}
