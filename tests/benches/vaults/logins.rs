//! Signing in, by a client of another make: OPAQUE and tokens, and nothing else.
//!
//! The client stretches its password each time, which takes a hundred times what is measured here, and is not counted.

use selkie_e2e::caller::Caller;
use selkie_protocol::Face;

use crate::Plan;
use crate::figures::{Figure, Goal};
use crate::machine::Machine;

const SIGN_INS: usize = 150;

pub(crate) async fn measure(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>) {
    if !plan.wants("login") {
        return;
    }
    let caller = Caller::new(&machine.server.url, Face::Cbor);
    caller.register("often@example.org", "a password", None).await.expect("registration is open");
    let times = plan.scaled(SIGN_INS);
    let before = machine.used();
    for _ in 0..times {
        caller.sign_in("often@example.org", "a password").await.expect("the password is right");
    }
    let used = machine.used().since(before, times as f64 * 1e3);
    let figure = Figure::new(machine.name, "login, CPU of the server", used.server, "ms CPU");
    plan.report(found, figure.goal(Goal::at_most(0.8)).and("database", used.database));
}
