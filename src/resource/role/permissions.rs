//! The permissions of a role, as a configuration has them.

use crate::access::{Access, KeyRange, Permissions};
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::plugin::schema::Attribute;
use crate::plugin::value::Value;

/// The attributes of a permission.
pub fn attributes() -> Vec<Attribute> {
    vec![
        Attribute::string("access")
            .required()
            .describe("`read`, `write` or `readwrite`. Deleting is writing, and watching is reading."),
        Attribute::string("key").describe("One key; with `range_end` the first one of a range."),
        Attribute::string("prefix").describe("All keys that begin so; `\"\"` for all keys."),
        Attribute::string("range_end").describe("The first key that is no longer in the range from `key` on."),
    ]
}

/// What the attribute `permissions` says, as far as it is known.
pub fn of(permissions: &Value, diagnostics: &mut Diagnostics) -> Permissions {
    let mut all = Permissions::new();
    for one in permissions.as_list().unwrap_or_default() {
        if !one.is_wholly_known() {
            continue;
        }
        let mut wrong = |detail: String| {
            diagnostics.push(Diagnostic::error("Invalid permission", detail).at(Path::of("permissions")));
        };
        let text = one.get("access").as_str().unwrap_or_default();
        let Some(access) = Access::parse(text) else {
            wrong(format!(
                "The access is {text:?}. It is \"read\", \"write\" or \"readwrite\"."
            ));
            continue;
        };
        match range(one) {
            Err(error) => wrong(format!("In {}, {error}.", words(one))),
            Ok(range) => {
                if all.insert(range, access).is_some_and(|before| before != access) {
                    let detail = "It has another access in another permission. etcd has one for each range.";
                    wrong(format!("{} is there twice. {detail}", words(one)));
                }
            }
        }
    }
    all
}

fn range(one: &Value) -> Result<KeyRange, crate::access::RangeError> {
    let text = |name| one.get(name).as_str();
    KeyRange::new(text("key"), text("prefix"), text("range_end"))
}

fn words(one: &Value) -> String {
    let said = ["key", "prefix", "range_end"]
        .into_iter()
        .filter_map(|name| Some(format!("{name} = {:?}", one.get(name).as_str()?)));
    let said: Vec<String> = said.collect();
    format!("{{ {} }}", said.join(", "))
}

/// What etcd has, in the words of `before` where these say the same.
pub fn as_configured(before: &Value, observed: &Permissions) -> Value {
    let known = before.as_list().unwrap_or_default();
    if observed.is_empty() && known.is_empty() {
        return before.clone();
    }
    let mut left = observed.clone();
    let mut all = Vec::new();
    for one in known {
        let access = one.get("access").as_str().and_then(Access::parse);
        if let (Ok(range), Some(access)) = (range(one), access)
            && left.get(&range) == Some(&access)
        {
            left.remove(&range);
            all.push(one.clone());
        }
    }
    all.extend(left.iter().map(|(range, access)| {
        let [key, prefix, range_end] = range.words();
        Value::object([
            ("access", access.as_str().into()),
            ("key", key.into()),
            ("prefix", prefix.into()),
            ("range_end", range_end.into()),
        ])
    }));
    Value::List(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(access: &str, name: &str, text: &str) -> Value {
        let mut one = Value::object([
            ("access", access.into()),
            ("key", Value::Null),
            ("prefix", Value::Null),
            ("range_end", Value::Null),
        ]);
        one.set(name, text);
        one
    }

    #[test]
    fn what_stays_is_said_as_it_was() {
        let mut range = permission("read", "key", "a");
        range.set("range_end", "b");
        let before = Value::List(vec![range.clone(), permission("write", "key", "x")]);
        let observed = of(&before, &mut Diagnostics::new());
        assert_eq!(as_configured(&before, &observed), before);
        let after = of(
            &Value::List(vec![range.clone(), permission("readwrite", "prefix", "/")]),
            &mut Diagnostics::new(),
        );
        let now = Value::List(vec![range, permission("readwrite", "prefix", "/")]);
        assert_eq!(as_configured(&before, &after), now);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let said = |permissions: Vec<Value>| {
            let mut diagnostics = Diagnostics::new();
            of(&Value::List(permissions), &mut diagnostics);
            diagnostics.iter().map(|one| one.detail.clone()).collect::<String>()
        };
        assert!(said(vec![permission("all", "key", "a")]).contains("\"all\""));
        let twice = said(vec![permission("read", "key", "a"), permission("write", "key", "a")]);
        assert!(twice.contains("{ key = \"a\" } is there twice"), "{twice}");
        let both = said(vec![permission("read", "range_end", "a")]);
        assert!(both.contains("for a key or for a prefix"), "{both}");
        assert_eq!(said(vec![permission("read", "prefix", "")]), "");
    }
}
