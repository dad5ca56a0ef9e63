//! Users, roles, and whether they matter.

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_client::{Permission, PermissionType, RoleRevokePermissionOptions, UserAddOptions};

use super::{Api, ApiError};
use crate::access::{Access, Call, KeyRange, Permissions};
use crate::host::Secret;

fn access_of(kind: i32) -> Access {
    match PermissionType::try_from(kind) {
        Ok(PermissionType::Write) => Access::Write,
        Ok(PermissionType::Readwrite) => Access::ReadWrite,
        _ => Access::Read,
    }
}

impl ApiError {
    /// Whether users or roles were changed by others between the question and its answer: it may be asked again.
    pub fn is_of_another_revision(&self) -> bool {
        self.says("revision of auth store is old")
    }
}

impl Api {
    /// Whether access control is on. Asked for as somebody who is nobody: from 3.4 on all say it so.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn auth_enabled(&self, timeout: Duration) -> Result<bool, ApiError> {
        let mut client = self.client().auth_client();
        match self
            .call(
                "auth status",
                timeout,
                client.authenticate(String::new(), String::new()),
            )
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.says("authentication is not enabled") => Ok(false),
            Err(error) if error.says("authentication failed") => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Switches access control off.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn auth_disable(&self, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        self.call("auth disable", timeout, client.auth_disable())
            .await
            .map(drop)
    }

    /// What a role allows, if there is one.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn role(&self, name: &str, timeout: Duration) -> Result<Option<Permissions>, ApiError> {
        let mut client = self.client();
        match self.call("role get", timeout, client.role_get(name)).await {
            Ok(answer) => {
                let permissions = answer.permissions();
                let one = |one: &Permission| (KeyRange::of(one.key(), one.range_end()), access_of(one.get_type()));
                Ok(Some(permissions.iter().map(one).collect()))
            }
            Err(error) if error.says("role name not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The roles of a user, if there is one.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn user(&self, name: &str, timeout: Duration) -> Result<Option<BTreeSet<String>>, ApiError> {
        let mut client = self.client();
        match self.call("user get", timeout, client.user_get(name)).await {
            Ok(answer) => Ok(Some(answer.roles().iter().cloned().collect())),
            Err(error) if error.says("user name not found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes users or roles. `password`: that of a user which is to have one.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn perform(&self, call: &Call, password: Option<&Secret>, timeout: Duration) -> Result<(), ApiError> {
        let mut client = self.client();
        let password = password.map_or(String::new(), |secret| secret.expose().to_owned());
        match call {
            Call::AddRole(role) => {
                let asked = client.role_add(role.as_str());
                self.call("role add", timeout, asked).await.map(drop)
            }
            Call::DeleteRole(role) => {
                let asked = client.role_delete(role.as_str());
                self.call("role delete", timeout, asked).await.map(drop)
            }
            Call::Grant(role, range, access) => {
                let kind = match access {
                    Access::Read => PermissionType::Read,
                    Access::Write => PermissionType::Write,
                    Access::ReadWrite => PermissionType::Readwrite,
                };
                let permission = Permission::new(kind, range.key()).with_range_end(range.end());
                let asked = client.role_grant_permission(role.as_str(), permission);
                self.call("role grant-permission", timeout, asked).await.map(drop)
            }
            Call::Revoke(role, range) => {
                let options = RoleRevokePermissionOptions::new().with_range_end(range.end());
                let asked = client.role_revoke_permission(role.as_str(), range.key(), Some(options));
                self.call("role revoke-permission", timeout, asked).await.map(drop)
            }
            Call::AddUser { user, password: false } => {
                let options = UserAddOptions::new().with_no_pwd();
                let asked = client.user_add(user.as_str(), "", Some(options));
                self.call("user add", timeout, asked).await.map(drop)
            }
            Call::AddUser { user, password: true } => {
                let asked = client.user_add(user.as_str(), password, None);
                self.call("user add", timeout, asked).await.map(drop)
            }
            Call::DeleteUser(user) => {
                let asked = client.user_delete(user.as_str());
                self.call("user delete", timeout, asked).await.map(drop)
            }
            Call::ChangePassword(user) => {
                let asked = client.user_change_password(user.as_str(), password);
                self.call("user passwd", timeout, asked).await.map(drop)
            }
            Call::GrantRole(user, role) => {
                let asked = client.user_grant_role(user.as_str(), role.as_str());
                self.call("user grant-role", timeout, asked).await.map(drop)
            }
            Call::RevokeRole(user, role) => {
                let asked = client.user_revoke_role(user.as_str(), role.as_str());
                self.call("user revoke-role", timeout, asked).await.map(drop)
            }
            Call::Enable => self.call("auth enable", timeout, client.auth_enable()).await.map(drop),
        }
    }
}
