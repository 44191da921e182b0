//! A library's promise that a lesson can't show.

use ch01_pid::Spawn;

#[test]
fn spawn_refuses_to_run_in_a_process_with_several_threads() {
    // libtest runs this test in a thread of its own, so there are two.
    let refusal = Spawn::new().start(|_| unreachable!("there is no child")).map(drop).unwrap_err();
    assert!(refusal.to_string().contains("several threads"), "{refusal:#}");
}
