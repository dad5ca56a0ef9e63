//! How far the servers have come in replacing their authorities.

use super::authorities::{ISSUED, ISSUING, TRUSTED, TRUSTING};
use super::model::{Authorities, ClusterModel};
use super::servers::on_each;
use crate::etcd::certificates::parse;
use crate::host::{Host, Output, RunError, Script};
use crate::plugin::value::{Value, from_value};
use crate::resource::road::Road;

/// Moves `rotation` on, if every server has done the step that the state stands for.
pub async fn refresh(road: &Road, cluster: &ClusterModel, state: &mut Value) {
    let Some(step) = state.get("rotation").as_str().map(str::to_owned) else {
        return;
    };
    let Ok(authorities) = from_value::<Authorities>(&state.get("certificate_authorities").unknown_as_null()) else {
        return;
    };
    let seen = on_each(road, &cluster.servers, super::READ, false, |_, host| async move {
        observe(&host, &cluster.name).await
    })
    .await;
    let all = |done: &dyn Fn(&Output) -> bool| seen.values().all(|output| output.as_ref().is_ok_and(done));
    let next = match step.as_str() {
        TRUSTING if all(&|output| trusts(output, &authorities)) => TRUSTED,
        ISSUING if all(&|output| is_issued(output, &authorities)) => ISSUED,
        _ => return,
    };
    state.set("rotation", next);
}

/// The certificates of a server.
///
/// # Errors
/// If the script can't run.
pub async fn observe(host: &Host, cluster: &str) -> Result<Output, RunError> {
    let script = Script::new("observing the certificates")
        .set("cluster", cluster)
        .line(include_str!("rotation.sh"));
    host.run_checked(&script).await
}

fn file(output: &Output, name: &str) -> Option<String> {
    output.text(name).map(str::to_owned)
}

/// Whether the member runs with both authorities: a file that it was not restarted for is not read yet.
fn trusts(output: &Output, authorities: &Authorities) -> bool {
    output.value("running").is_some()
        && output.value("restart-pending").is_none()
        && file(output, "peer-ca").as_deref() == Some(authorities.peer.trusted())
        && file(output, "client-ca").as_deref() == Some(authorities.client.trusted())
}

fn is_issued(output: &Output, authorities: &Authorities) -> bool {
    [
        ("peer", &authorities.peer),
        ("peer-client", &authorities.peer),
        ("server", &authorities.client),
        ("operator", &authorities.client),
    ]
    .into_iter()
    .all(|(name, authority)| {
        let leaf = file(output, name).and_then(|pem| parse(&pem).ok());
        let issuer = parse(&authority.certificate);
        matches!((leaf, issuer), (Some(leaf), Ok(issuer)) if leaf.was_signed_by(&issuer))
    })
}
