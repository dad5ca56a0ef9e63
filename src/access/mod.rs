//! PURE. Who may do what in etcd: ranges of keys, roles, users, and the calls that lead from what there is to what is wanted.
//!
//! A call that gives comes before one that takes away: whoever keeps an access that is only written down in another way is never
//! without it.

mod range;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use range::{KeyRange, RangeError};

/// The user, and the role, that may do everything. etcd does not switch access control on without them.
pub const ROOT: &str = "root";

/// What may be done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Reading and watching.
    Read,
    /// Writing and deleting.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    /// As a configuration has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "readwrite",
        }
    }

    /// Reads what [`Self::as_str`] says.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::ReadWrite]
            .into_iter()
            .find(|access| access.as_str() == text)
    }
}

/// What a role allows. etcd has one access for each range.
pub type Permissions = BTreeMap<KeyRange, Access>;

/// One request to etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Adds a role that allows nothing yet.
    AddRole(String),
    /// Takes a role away, from its users too.
    DeleteRole(String),
    /// Allows this role something.
    Grant(String, KeyRange, Access),
    /// No longer allows it.
    Revoke(String, KeyRange),
    /// Adds a user without roles; with a password, which whoever performs this has, or without any.
    AddUser {
        /// Its name.
        user: String,
        /// Whether it has one.
        password: bool,
    },
    /// Takes a user away.
    DeleteUser(String),
    /// Gives a user its new password, which whoever performs this has.
    ChangePassword(String),
    /// Gives a user a role.
    GrantRole(String, String),
    /// Takes a role from a user.
    RevokeRole(String, String),
    /// Switches access control on.
    Enable,
}

/// Why nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What is there is somebody else's.
    #[error(
        "the {0} {1:?} is there already, and not as it is wanted: it was made by other means. Import it to have it changed, or give this \
         one another name"
    )]
    SomebodyElses(&'static str, String),
    /// The last way in.
    #[error(
        "access control is on, and {0}: nobody could administer the cluster any more. Switch it off first, or keep it: where an etcd_auth \
         goes in the same run, this one must be among what it depends on (depends_on)"
    )]
    LocksOut(&'static str),
    /// The name is etcd's own.
    #[error("the role \"root\" allows everything, whatever its permissions are. Give it none, or another name")]
    RootAllows,
}

/// What leads a role to these permissions. `ours`: it is known to be this configuration's; one that is only to be made may be there as an
/// apply has left it that was cut off, with some of its permissions.
///
/// # Errors
/// [`Refusal`].
pub fn role(
    name: &str,
    wanted: &Permissions,
    observed: Option<&Permissions>,
    ours: bool,
) -> Result<Vec<Call>, Refusal> {
    if name == ROOT && !wanted.is_empty() {
        return Err(Refusal::RootAllows);
    }
    let grant = |range: &KeyRange, access: &Access| Call::Grant(name.to_owned(), range.clone(), *access);
    let Some(observed) = observed else {
        let add = Call::AddRole(name.to_owned());
        return Ok([add]
            .into_iter()
            .chain(wanted.iter().map(|(range, access)| grant(range, access)))
            .collect());
    };
    let begun = || observed.iter().all(|(range, access)| wanted.get(range) == Some(access));
    if !ours && !begun() {
        return Err(Refusal::SomebodyElses("role", name.to_owned()));
    }
    let missing = wanted
        .iter()
        .filter(|(range, access)| observed.get(range) != Some(access));
    let given = missing.map(|(range, access)| grant(range, access));
    let unwanted = observed.keys().filter(|range| !wanted.contains_key(range));
    let taken = unwanted.map(|range| Call::Revoke(name.to_owned(), range.clone()));
    Ok(given.chain(taken).collect())
}

/// What takes a role away.
///
/// # Errors
/// [`Refusal::LocksOut`].
pub fn without_role(name: &str, observed: bool, enabled: bool) -> Result<Vec<Call>, Refusal> {
    if name == ROOT && enabled {
        return Err(Refusal::LocksOut("the role \"root\" is needed for that"));
    }
    Ok(observed
        .then(|| Call::DeleteRole(name.to_owned()))
        .into_iter()
        .collect())
}

/// What is wanted of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its roles.
    pub roles: BTreeSet<String>,
    /// Whether it has a password.
    pub password: bool,
    /// Whether that is another one than before.
    pub new_password: bool,
    /// Whether it may have any other password, or none: it came back with the data of another time.
    pub old_data: bool,
}

/// What leads to this user. `ours` as in [`role`].
///
/// # Errors
/// [`Refusal`].
pub fn user(
    wanted: &User,
    observed: Option<&BTreeSet<String>>,
    ours: bool,
    enabled: bool,
) -> Result<Vec<Call>, Refusal> {
    let name = || wanted.name.clone();
    if wanted.name == ROOT && enabled && !wanted.roles.contains(ROOT) {
        return Err(Refusal::LocksOut("the user \"root\" needs the role \"root\" for that"));
    }
    let add = Call::AddUser {
        user: name(),
        password: wanted.password,
    };
    let grants = |roles: &BTreeSet<String>| {
        let missing = wanted.roles.iter().filter(|role| !roles.contains(*role));
        missing
            .map(|role| Call::GrantRole(name(), role.clone()))
            .collect::<Vec<_>>()
    };
    let Some(observed) = observed else {
        return Ok([vec![add], grants(&BTreeSet::new())].concat());
    };
    if !ours && !observed.is_subset(&wanted.roles) {
        return Err(Refusal::SomebodyElses("user", name()));
    }
    // etcd gives no password to a user that was made without one, and does not say so. Root can't be made anew while it is needed.
    if (!ours || wanted.old_data) && wanted.password && !(wanted.name == ROOT && enabled) {
        return Ok([vec![Call::DeleteUser(name()), add], grants(&BTreeSet::new())].concat());
    }
    let password = ((wanted.new_password || wanted.old_data) && wanted.password).then(|| Call::ChangePassword(name()));
    let taken = observed.difference(&wanted.roles);
    let taken = taken.map(|role| Call::RevokeRole(name(), role.clone())).collect();
    Ok([password.into_iter().collect(), grants(observed), taken].concat())
}

/// What takes a user away.
///
/// # Errors
/// [`Refusal::LocksOut`].
pub fn without_user(name: &str, observed: bool, enabled: bool) -> Result<Vec<Call>, Refusal> {
    if name == ROOT && enabled {
        return Err(Refusal::LocksOut("the user \"root\" is needed for that"));
    }
    Ok(observed
        .then(|| Call::DeleteUser(name.to_owned()))
        .into_iter()
        .collect())
}

/// What switches access control on, with the root that etcd wants for it. A root that is there keeps its password.
#[must_use]
pub fn enabled(enabled: bool, root_role: bool, root_user: Option<&BTreeSet<String>>) -> Vec<Call> {
    if enabled {
        return Vec::new();
    }
    let mut calls = Vec::new();
    if !root_role {
        calls.push(Call::AddRole(ROOT.to_owned()));
    }
    if root_user.is_none() {
        calls.push(Call::AddUser {
            user: ROOT.to_owned(),
            password: false,
        });
    }
    if root_user.is_none_or(|roles| !roles.contains(ROOT)) {
        calls.push(Call::GrantRole(ROOT.to_owned(), ROOT.to_owned()));
    }
    calls.push(Call::Enable);
    calls
}
