//! The identities of Terraform's objects: made at their create, kept in their private state, and known to this process for what it has
//! created or planned. What decides is [`crate::membership::incarnation`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::random::random_text;
use super::road::Road;
use crate::membership::incarnation::Incarnation;
use crate::plugin::diagnostics::Diagnostic;

const WORD: &str = "object=";

/// A fresh identity.
///
/// # Errors
/// If the machine gives no random text.
pub fn fresh() -> Result<Incarnation, Diagnostic> {
    let text = random_text()?;
    Incarnation::parse(&text).ok_or_else(|| Diagnostic::error("No random text could be made", text))
}

/// The identity that is kept in private state.
pub fn kept(private: &[u8]) -> Option<Incarnation> {
    let words = private.split(u8::is_ascii_whitespace);
    let mut ours = words.filter_map(|word| std::str::from_utf8(word).ok()?.strip_prefix(WORD));
    Incarnation::parse(ours.next()?)
}

/// Private state that keeps this identity, and nothing else.
pub fn keep(object: Option<&Incarnation>) -> Vec<u8> {
    object.map_or_else(Vec::new, |object| format!("{WORD}{object}").into_bytes())
}

/// Which object each thing belongs to, as far as this process has created or planned it.
#[derive(Default)]
pub struct Newest {
    objects: Mutex<HashMap<String, Option<Incarnation>>>,
}

impl Newest {
    /// Notes to which object a thing belongs; says what was noted before.
    pub fn note(&self, thing: &str, object: Option<Incarnation>) -> Option<Option<Incarnation>> {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.insert(thing.to_owned(), object)
    }

    /// Puts back what was noted before.
    pub fn put_back(&self, thing: &str, before: Option<Option<Incarnation>>) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        match before {
            Some(before) => objects.insert(thing.to_owned(), before),
            None => objects.remove(thing),
        };
    }

    /// Whether the thing belongs to a newer object; `None` where this process does not know.
    pub fn is_superseded(&self, thing: &str, own: Option<&Incarnation>) -> Option<bool> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.get(thing).map(|newest| newest.as_ref() != own)
    }
}

/// An object that is being created. Unless it is kept, what was known before counts again.
pub struct Creating<'a> {
    road: &'a Road,
    thing: String,
    before: Option<Option<Incarnation>>,
    kept: bool,
}

impl<'a> Creating<'a> {
    /// The thing belongs to this object from now on.
    pub fn new(road: &'a Road, thing: String, object: &Incarnation) -> Self {
        let before = road
            .newest()
            .and_then(|newest| newest.note(&thing, Some(object.clone())));
        Self {
            road,
            thing,
            before,
            kept: false,
        }
    }

    /// It is there.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        if !self.kept
            && let Some(newest) = self.road.newest()
        {
            newest.put_back(&self.thing, self.before.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_created_belongs_to_that() {
        let one = |text: &str| Incarnation::parse(text);
        assert_eq!(kept(&keep(one("0a").as_ref())), one("0a"));
        assert_eq!(kept(b"created object=0a unverified"), one("0a"));
        assert_eq!(kept(b"created"), None);
        let newest = Newest::default();
        assert_eq!(newest.is_superseded("m", one("0a").as_ref()), None);
        newest.note("m", None);
        assert_eq!(newest.is_superseded("m", None), Some(false));
        let before = newest.note("m", one("1b"));
        assert_eq!(newest.is_superseded("m", None), Some(true));
        assert_eq!(newest.is_superseded("m", one("1b").as_ref()), Some(false));
        newest.put_back("m", before);
        assert_eq!(newest.is_superseded("m", None), Some(false));
        newest.put_back("m", None);
        assert_eq!(newest.is_superseded("m", None), None);
    }
}
