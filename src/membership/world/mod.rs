//! Whole clusters, simulated: random servers, wishes, faults and interruptions, decided by the functions of this room, performed as the
//! code under `resource/` performs them. A violation of what must always hold ends the story.
//!
//! * [`machine`], [`history`], [`etcd`]: servers, what the members agree on, and etcd's own doing.
//! * [`turn`], [`bring_up`], [`leave`], [`establish`]: the calls of the provider, step by step.
//! * [`terraform`]: refresh, plan, and the calls in any order.
//! * [`rules`]: what must hold whenever the provider acts.
//! * [`story`]: what the user wants, what happens meanwhile, and how it ends.
//!
//! `WORLD_STORIES=100000 cargo test --lib membership::world` tells more of them.

mod bring_up;
mod call;
mod chance;
mod establish;
mod etcd;
mod history;
mod leave;
mod machine;
mod rules;
mod story;
mod terraform;
mod turn;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use story::{Stage, any_story};

fn stories() -> u32 {
    let given = std::env::var("WORLD_STORIES").ok();
    given.and_then(|number| number.parse().ok()).unwrap_or(2000)
}

#[test]
fn no_story_ends_badly() {
    let config = Config {
        cases: stories(),
        max_shrink_iters: 20_000,
        max_shrink_time: 20_000,
        source_file: Some(file!()),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&any_story(), |story| match Stage::new(&story).play(&story) {
        Ok(_) => Ok(()),
        Err(violation) => Err(TestCaseError::fail(violation)),
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(violation, story)) => panic!("{violation}\n{story:#?}\n{}", Stage::told(&story)),
        Err(failed) => panic!("{failed}"),
    }
}
