//! Scripts in, transcripts out: a small world of hosts, one datastore and cables, in virtual time.
//!
//! What the transcript shows: every report, and every start, stop and reset of a VM, with its time
//! in seconds. After every action the world checks that no VM runs on two hosts, and that no lease
//! goes back. The large world, with faults of every kind, is `racknest-sim`.

mod elections;
mod isolation;
mod placing;
mod random;
mod restarts;
mod storage;
mod world;

use expect_test::Expect;

use self::world::World;

/// Runs a script and compares what comes of it.
#[expect(clippy::needless_pass_by_value, reason = "the idiom of expect_test")]
fn check(script: &str, expected: Expect) {
    let mut world = World::new();
    for line in script.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        world.step(line);
    }
    expected.assert_eq(&world.transcript);
}
