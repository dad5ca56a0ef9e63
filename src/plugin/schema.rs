//! Schemas of blocks, as Terraform sees them.

use std::collections::BTreeMap;

use super::value::Value;

/// A type constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// A truth value.
    Bool,
    /// A number.
    Number,
    /// A text.
    String,
    /// Any type, told with each value.
    Dynamic,
    /// Elements of one type, in order.
    List(Box<Type>),
    /// Elements of one type, each once.
    Set(Box<Type>),
    /// Elements of one type, by name.
    Map(Box<Type>),
    /// Named attributes, each of its type.
    Object(BTreeMap<String, Type>),
    /// Elements, each of its type.
    Tuple(Vec<Type>),
}

/// What an attribute holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A value of a type.
    Plain(Type),
    /// One nested object.
    Single(Vec<Attribute>),
    /// A list of nested objects.
    List(Vec<Attribute>),
    /// A set of nested objects.
    Set(Vec<Attribute>),
    /// A map of nested objects.
    Map(Vec<Attribute>),
}

/// Who sets an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The configuration must.
    Required,
    /// The configuration may.
    Optional,
    /// The configuration may, and else the provider does.
    OptionalComputed,
    /// The provider does.
    Computed,
}

/// The computed attributes next to one that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The text that represents the value in plans.
    pub revision: &'static str,
    /// What an older version of the provider had in the state, until it is in private state.
    pub carried: &'static str,
}

/// One attribute of a block or nested object.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Who sets it.
    pub presence: Presence,
    /// What it means, in Markdown.
    pub description: &'static str,
    /// Terraform hides its value.
    pub sensitive: bool,
    /// Never in plan or state (Terraform 1.11 and later).
    pub write_only: bool,
    /// It is write-only, and what a block needs of it between runs is kept in private state ([`super::remembered`]).
    pub remembered: Option<Remembered>,
    /// Why not to use it any more.
    pub deprecation: Option<&'static str>,
    /// What stands where the configuration has null.
    pub default: Option<Value>,
    /// A change makes a new resource.
    pub requires_replace: bool,
    /// A computed value stays as it is when others change.
    pub use_state: bool,
}

impl Attribute {
    fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            presence: Presence::Optional,
            description: "",
            sensitive: false,
            write_only: false,
            remembered: None,
            deprecation: None,
            default: None,
            requires_replace: false,
            use_state: false,
        }
    }

    /// An optional attribute of a type.
    pub fn plain(name: &'static str, r#type: Type) -> Self {
        Self::new(name, Kind::Plain(r#type))
    }

    /// An optional text.
    pub fn string(name: &'static str) -> Self {
        Self::plain(name, Type::String)
    }

    /// An optional number.
    pub fn number(name: &'static str) -> Self {
        Self::plain(name, Type::Number)
    }

    /// An optional truth value.
    pub fn bool(name: &'static str) -> Self {
        Self::plain(name, Type::Bool)
    }

    /// An optional list of a type.
    pub fn list(name: &'static str, of: Type) -> Self {
        Self::plain(name, Type::List(Box::new(of)))
    }

    /// An optional map of a type.
    pub fn map(name: &'static str, of: Type) -> Self {
        Self::plain(name, Type::Map(Box::new(of)))
    }

    /// An optional nested object.
    pub fn object(name: &'static str, attributes: Vec<Attribute>) -> Self {
        Self::new(name, Kind::Single(attributes))
    }

    /// An optional map of nested objects.
    pub fn map_of(name: &'static str, attributes: Vec<Attribute>) -> Self {
        Self::new(name, Kind::Map(attributes))
    }

    /// An optional list of nested objects.
    pub fn list_of(name: &'static str, attributes: Vec<Attribute>) -> Self {
        Self::new(name, Kind::List(attributes))
    }

    /// An optional set of nested objects.
    pub fn set_of(name: &'static str, attributes: Vec<Attribute>) -> Self {
        Self::new(name, Kind::Set(attributes))
    }

    /// The same, but the configuration must set it.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.presence = Presence::Required;
        self
    }

    /// The same, but set by the provider where the configuration does not.
    #[must_use]
    pub fn or_computed(mut self) -> Self {
        self.presence = Presence::OptionalComputed;
        self
    }

    /// The same, but set by the provider.
    #[must_use]
    pub fn computed(mut self) -> Self {
        self.presence = Presence::Computed;
        self
    }

    /// The same, with a description.
    #[must_use]
    pub fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// The same, hidden in Terraform's output.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// The same, never in plan or state.
    #[must_use]
    pub fn write_only(mut self) -> Self {
        self.write_only = true;
        self
    }

    /// The same, write-only and remembered in private state. The schema needs the two texts next to it, both computed. For a whole object at
    /// the top of a block alone.
    #[must_use]
    pub fn remembered(mut self, next_to_it: Remembered) -> Self {
        self.remembered = Some(next_to_it);
        self
    }

    /// The same, with a default (which makes it computed as well, in Terraform's eyes).
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self.presence = Presence::OptionalComputed;
        self
    }

    /// The same, but a change makes a new resource.
    #[must_use]
    pub fn requires_replace(mut self) -> Self {
        self.requires_replace = true;
        self
    }

    /// The same, but its computed value stays when other attributes change.
    #[must_use]
    pub fn use_state(mut self) -> Self {
        self.use_state = true;
        self
    }
}

/// The schema of a block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// Raised when older state needs an upgrade.
    pub version: i64,
    /// What the block is, in Markdown.
    pub description: &'static str,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
}
