//! What [`crate::half_open`] sees on etcd clusters, seen on k3s.

use super::*;
use crate::half_open::HANG_UP;
use crate::half_open::believed_lost::Pair;

const HOSTS: [&str; 3] = ["a1", "b1", "c1"];

#[test]
fn a_server_is_restarted_where_etcd_believes_a_peer_lost() -> Result<()> {
    let lab = lab("k3s-believed", &HOSTS)?;
    let terraform = Terraform::new(&lab, "1.15")?;
    let three = K3s::new(&lab, &HOSTS)?;
    terraform.configure(&three.render())?;
    terraform.apply()?;
    let addresses = one_cluster(&lab, &HOSTS)?;
    let hang_up = HANG_UP.replacen("etcd-main.service", "k3s.service", 1);
    let pair = Pair {
        lab: &lab,
        a1: &addresses["a1"],
        b1: &addresses["b1"],
        ctl,
        metrics: "curl -s http://127.0.0.1:2381/metrics",
        hang_up: &hang_up,
    };
    pair.believe_lost()?;
    let options = servers::options("", "c1", "\"kube-apiserver-arg\" = \"v=1\"");
    terraform.write("main.tf", &three.clone().server("config", options).render())?;
    terraform.apply()?;
    ensure!(pair.counts()?, "a1 counts b1 as lost still");
    becomes_one_cluster(&lab, &HOSTS)?;
    terraform.nothing_to_do()
}
