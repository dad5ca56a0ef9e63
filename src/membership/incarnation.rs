//! Which of several objects of Terraform's a thing in the world belongs to.
//!
//! With `create_before_destroy` Terraform creates an object, and then deletes the one before it. Both are the same member, user or service, and
//! the protocol does not say that a delete is of a superseded object. So every create has an identity of its own, the thing in the world has
//! that of the newest one, and a delete with another one takes nothing away.

use std::fmt;

/// The identity of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(String);

impl Incarnation {
    /// One as it was written down; none where the text is not one word.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let word = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric());
        word.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether the thing belongs to a newer object than `own`. Objects of older versions have no identity, and neither has what they made.
pub fn is_superseded(own: Option<&Incarnation>, of_the_thing: Option<&Incarnation>) -> bool {
    of_the_thing.is_some() && of_the_thing != own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_belongs_to_the_object_that_it_names() {
        let one = |text| Incarnation::parse(text);
        let (old, new) = (one("0a"), one("1b\n"));
        assert!(is_superseded(old.as_ref(), new.as_ref()));
        assert!(!is_superseded(new.as_ref(), new.as_ref()));
        // Made by an older version, and replaced by this one.
        assert!(is_superseded(None, new.as_ref()));
        assert!(!is_superseded(None, None));
        // The machine was set up again, or what is there was made by an older version.
        assert!(!is_superseded(old.as_ref(), None));
        for bad in ["", " ", "two words", "a;b"] {
            assert_eq!(one(bad), None);
        }
    }
}
