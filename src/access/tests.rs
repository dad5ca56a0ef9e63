use proptest::prelude::*;

use super::*;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn prefix(text: &str) -> KeyRange {
    KeyRange::new(None, Some(text), None).unwrap()
}

#[test]
fn a_prefix_ends_where_etcd_has_it_end() {
    assert_eq!(prefix("/app/").end(), b"/app0");
    assert_eq!(
        KeyRange::of(b"a\xff\xff", b"b").words(),
        [None, Some("a\u{fffd}\u{fffd}".into()), None]
    );
    assert_eq!((prefix("").key(), prefix("").end()), (&b"\0"[..], &b"\0"[..]));
}

#[test]
fn a_range_is_said_as_it_would_be_configured() {
    let said = |key, prefix, end| KeyRange::new(key, prefix, end).map(|range| range.words());
    assert_eq!(said(Some("a"), None, None), Ok([Some("a".into()), None, None]));
    assert_eq!(said(None, Some(""), None), Ok([None, Some(String::new()), None]));
    assert_eq!(
        said(Some("a"), None, Some("c")),
        Ok([Some("a".into()), None, Some("c".into())])
    );
    // The same range, in other words.
    assert_eq!(said(Some("a"), None, Some("b")), Ok([None, Some("a".into()), None]));
    assert_eq!(said(Some("b"), None, Some("a")), Err(RangeError::Empty("b".into())));
    assert_eq!(said(Some("b"), Some("b"), None), Err(RangeError::OneOfBoth));
    assert_eq!(said(None, None, None), Err(RangeError::OneOfBoth));
    assert_eq!(said(None, Some("a"), Some("b")), Err(RangeError::EndOfPrefix));
    assert_eq!(said(Some(""), None, None), Err(RangeError::NoKey));
}

#[test]
fn what_is_made_by_others_is_left_alone() {
    let wanted = Permissions::from([(prefix("/app/"), Access::Read)]);
    let theirs = Permissions::from([(prefix("/"), Access::ReadWrite)]);
    let refused = Refusal::SomebodyElses("role", "app".into());
    assert_eq!(role("app", &wanted, Some(&theirs), false), Err(refused));
    assert_eq!(
        role("app", &wanted, Some(&theirs), true),
        Ok(vec![
            Call::Grant("app".into(), prefix("/app/"), Access::Read),
            Call::Revoke("app".into(), prefix("/")),
        ])
    );
    let wanted = User {
        name: "app".into(),
        roles: set(&["app"]),
        password: false,
        new_password: false,
        old_data: false,
    };
    assert!(user(&wanted, Some(&set(&["other"])), false, true).is_err());
    assert_eq!(user(&wanted, Some(&set(&["app"])), false, true), Ok(Vec::new()));
}

#[test]
fn a_user_gets_a_password_by_being_made_with_it() {
    let wanted = User {
        name: "app".into(),
        roles: set(&["app"]),
        password: true,
        new_password: true,
        old_data: false,
    };
    let calls = user(&wanted, Some(&set(&[])), false, true).unwrap();
    assert_eq!(calls[0], Call::DeleteUser("app".into()));
    let calls = user(&wanted, Some(&set(&["app"])), true, true).unwrap();
    assert_eq!(calls, [Call::ChangePassword("app".into())]);
    // In data of another time it may have been made without one.
    let wanted = User {
        new_password: false,
        old_data: true,
        ..wanted
    };
    let calls = user(&wanted, Some(&set(&["old"])), true, true).unwrap();
    assert_eq!(calls[0], Call::DeleteUser("app".into()));
    let root = User {
        name: ROOT.into(),
        roles: set(&[ROOT]),
        ..wanted
    };
    let calls = user(&root, Some(&set(&[ROOT])), true, true).unwrap();
    assert_eq!(calls, [Call::ChangePassword(ROOT.into())]);
    let calls = user(&root, Some(&set(&[ROOT])), false, true).unwrap();
    assert_eq!(calls, [Call::ChangePassword(ROOT.into())]);
}

#[test]
fn nobody_is_locked_out() {
    assert!(without_user(ROOT, true, true).is_err() && without_role(ROOT, true, true).is_err());
    assert!(without_user(ROOT, true, false).is_ok() && without_user("app", true, true).is_ok());
    let root = User {
        name: ROOT.into(),
        roles: set(&["app"]),
        password: false,
        new_password: false,
        old_data: false,
    };
    assert!(user(&root, Some(&set(&[ROOT])), true, true).is_err());
    assert!(user(&root, Some(&set(&[ROOT])), true, false).is_ok());
}

/// What etcd does with the calls.
#[derive(Default)]
struct Etcd {
    roles: BTreeMap<String, Permissions>,
    users: BTreeMap<String, BTreeSet<String>>,
    enabled: bool,
}

impl Etcd {
    fn perform(&mut self, call: &Call) {
        match call.clone() {
            Call::AddRole(role) => assert!(self.roles.insert(role, Permissions::new()).is_none()),
            Call::DeleteRole(role) => assert!(self.roles.remove(&role).is_some()),
            Call::Grant(role, range, access) => drop(self.roles.get_mut(&role).unwrap().insert(range, access)),
            Call::Revoke(role, range) => assert!(self.roles.get_mut(&role).unwrap().remove(&range).is_some()),
            Call::AddUser { user, .. } => assert!(self.users.insert(user, BTreeSet::new()).is_none()),
            Call::DeleteUser(user) => {
                assert!(!(self.enabled && user == ROOT));
                assert!(self.users.remove(&user).is_some());
            }
            Call::ChangePassword(user) => assert!(self.users.contains_key(&user)),
            Call::GrantRole(user, role) => assert!(self.users.get_mut(&user).unwrap().insert(role)),
            Call::RevokeRole(user, role) => {
                assert!(!(self.enabled && user == ROOT && role == ROOT));
                assert!(self.users.get_mut(&user).unwrap().remove(&role));
            }
            Call::Enable => {
                assert!(self.roles.contains_key(ROOT) && self.users[ROOT].contains(ROOT));
                self.enabled = true;
            }
        }
    }
}

fn permissions() -> impl Strategy<Value = Permissions> {
    let range = prop_oneof![
        "[a-c]{0,2}".prop_map(|text| prefix(&text)),
        "[a-c]{1,2}".prop_map(|text| KeyRange::new(Some(&text), None, None).unwrap()),
    ];
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::ReadWrite)];
    proptest::collection::btree_map(range, access, 0..5)
}

proptest! {
    /// Cut off after any call, the next run ends where this one would have, and what was there and stays is never missing.
    #[test]
    fn a_role_becomes_what_is_wanted(
        before in proptest::option::of(permissions()), wanted in permissions(), cut in 0_usize..8,
    ) {
        let mut etcd = Etcd::default();
        if let Some(before) = &before {
            etcd.roles.insert("app".into(), before.clone());
        }
        let observed = |etcd: &Etcd| etcd.roles.get("app").cloned();
        let ours = before.is_some();
        let kept: Permissions = before.iter().flatten().filter(|(range, access)| wanted.get(range) == Some(access))
            .map(|(range, access)| (range.clone(), *access)).collect();
        for call in role("app", &wanted, observed(&etcd).as_ref(), ours).unwrap().iter().take(cut) {
            etcd.perform(call);
            let now = observed(&etcd).unwrap();
            prop_assert!(kept.iter().all(|(range, access)| now.get(range) == Some(access)));
        }
        for call in role("app", &wanted, observed(&etcd).as_ref(), ours).unwrap() {
            etcd.perform(&call);
        }
        prop_assert_eq!(observed(&etcd), Some(wanted.clone()));
        prop_assert_eq!(role("app", &wanted, Some(&wanted), true), Ok(Vec::new()));
    }

    #[test]
    fn a_user_becomes_what_is_wanted(
        before in proptest::option::of(proptest::collection::btree_set("[a-d]", 0..4)),
        roles in proptest::collection::btree_set("[a-d]", 0..4), password: bool, cut in 0_usize..8, on: bool,
    ) {
        let mut etcd = Etcd { enabled: on, ..Etcd::default() };
        if let Some(before) = &before {
            etcd.users.insert("app".into(), before.clone());
        }
        let wanted = User { name: "app".into(), roles, password, new_password: password, old_data: false };
        let ours = before.is_some();
        for call in user(&wanted, etcd.users.get("app"), ours, on).unwrap().iter().take(cut) {
            etcd.perform(call);
        }
        for call in user(&wanted, etcd.users.get("app").cloned().as_ref(), ours, on).unwrap() {
            etcd.perform(&call);
        }
        prop_assert_eq!(etcd.users.get("app"), Some(&wanted.roles));
    }

    #[test]
    fn it_is_switched_on_with_a_root(role: bool, there in proptest::option::of(proptest::collection::btree_set("(root|app)", 0..2))) {
        let mut etcd = Etcd::default();
        if role {
            etcd.roles.insert(ROOT.into(), Permissions::new());
        }
        etcd.users.extend(there.map(|roles| (ROOT.to_owned(), roles)));
        for call in enabled(false, role, etcd.users.get(ROOT)) {
            etcd.perform(&call);
        }
        prop_assert!(etcd.enabled);
        prop_assert_eq!(enabled(true, true, etcd.users.get(ROOT)), Vec::new());
    }
}
