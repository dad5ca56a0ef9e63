//! The object of Terraform's that a member belongs to, and a member that is only forgotten.

use super::model::MemberModel;
use super::{MemberResource, READ, Whole};
use crate::membership::incarnation::Incarnation;
use crate::plugin::diagnostics::{Diagnostic, Diagnostics};
use crate::plugin::path::Path;
use crate::resource::claim::OnServer;

/// What this process calls a member, whichever object of Terraform's it belongs to.
pub(super) fn thing(token: &str, server: &str) -> String {
    format!("member {token}/{server}")
}

impl Whole {
    fn on_server(&self) -> Option<OnServer<'_>> {
        let (member, token) = (&self.member, self.member.cluster.token());
        Some(OnServer {
            thing: thing(token, &member.server),
            server: member.server()?,
            folder: self.layout.etc_dir().as_str(),
            of: ("token", token),
        })
    }
}

impl MemberResource {
    pub(super) async fn belongs_to_another(&self, whole: &Whole, private: &[u8]) -> bool {
        match whole.on_server() {
            Some(on_server) => on_server.is_superseded(&self.road, private).await,
            None => false,
        }
    }

    pub(super) async fn belongs_to(&self, whole: &Whole) -> Option<Incarnation> {
        whole.on_server()?.belongs_to(&self.road).await
    }

    /// A member whose server is gone for good: there is no quorum to take it out of the cluster, and the one that its cluster becomes
    /// does not have it.
    pub(super) async fn forget(&self, member: &MemberModel) -> Diagnostics {
        let Some(server) = member.server() else {
            return Diagnostics::new();
        };
        let (name, cluster) = (&member.server, &member.cluster.name);
        match self.road.connect(server, READ, false).await {
            Ok(_) => {
                let detail = format!(
                    "Server {name} answers, and the cluster's `recovery` says that it is lost. If only its data is gone, take it out of \
                     `lost` and leave it in the configuration. Nothing was changed."
                );
                Diagnostic::error(format!("Member {name} is not lost"), detail)
                    .at(Path::of("server"))
                    .into()
            }
            Err(error) => {
                let detail = format!(
                    "Its server is gone for good, as `recovery` says, so it was only forgotten. Should the machine come back, its \
                     member finds nobody of the cluster {cluster} as it was: run `systemctl disable --now etcd-{cluster}` there. {error}"
                );
                Diagnostic::warning(format!("Member {name} was forgotten"), detail)
                    .at(Path::of("server"))
                    .into()
            }
        }
    }
}
