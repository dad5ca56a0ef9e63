//! Attribute paths: where in a configuration a diagnostic points.

use std::fmt;

/// One step of an attribute path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// An attribute of the block or of a nested object.
    Attribute(String),
    /// An element of a map.
    Key(String),
    /// An element of a list.
    Index(i64),
}

/// The way from a block to one of its values, such as `servers["a1"].public_address`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

impl Path {
    /// The block itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of one top-level attribute.
    pub fn of(attribute: &str) -> Self {
        Self::root().attribute(attribute)
    }

    /// This path, one attribute deeper.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Self {
        self.then(Step::Attribute(name.to_owned()))
    }

    /// This path, into one element of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// This path, into one element of a list.
    #[must_use]
    pub fn index(&self, index: i64) -> Self {
        self.then(Step::Index(index))
    }

    /// This path with one more step.
    #[must_use]
    pub fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// As far as every Terraform finds its place in the configuration: an attribute of the block, and perhaps an element of it. Of a longer path OpenTofu
    /// and Terraform 1.11 take the last name alone, and show an attribute of the block that happens to have it, or none.
    #[must_use]
    pub fn shown(&self) -> Self {
        let element = matches!(self.0.get(1), Some(Step::Key(_) | Step::Index(_)));
        Self(self.0.iter().take(1 + usize::from(element)).cloned().collect())
    }

    /// Whether a text has the name of the last attribute on it.
    pub fn is_named_in(&self, text: &str) -> bool {
        let mut names = self.0.iter().filter_map(|step| match step {
            Step::Attribute(name) => Some(name),
            Step::Key(_) | Step::Index(_) => None,
        });
        names.next_back().is_none_or(|name| text.contains(name.as_str()))
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Attribute(name) if position == 0 => write!(f, "{name}")?,
                Step::Attribute(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_found_by_every_terraform() {
        let shown = |path: Path| path.shown().to_string();
        assert_eq!(shown(Path::of("servers").key("b").attribute("name")), "servers[\"b\"]");
        assert_eq!(shown(Path::of("ssh").attribute("bastion").attribute("port")), "ssh");
        assert_eq!(shown(Path::of("list").index(1)), "list[1]");
        assert_eq!(shown(Path::of("name")), "name");
        assert_eq!(shown(Path::root()), "");
        assert!(Path::of("ssh").attribute("port").is_named_in("the port is 0"));
        assert!(!Path::of("servers").key("port").index(2).is_named_in("the port is 0"));
    }
}
