//! Very many sign-ins at once, and whether the others are still served.
//!
//! A sign-in here is what the server has to do for one, its two requests. The client stretches its password between
//! them, which takes a hundred times what is measured; so each who begins finishes a sign-in that was begun long
//! before, stretching and all.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use selkie_e2e::caller::Caller;
use selkie_e2e::scribe::PASSWORD;
use selkie_protocol::session::{LoginFinished, LoginStart, LoginStarted};
use selkie_protocol::{Face, Fixed, opaque};
use tokio::time::sleep;

use crate::Plan;
use crate::arrivals::{Kind, Served, keep_to};
use crate::crowd::Crowd;
use crate::figures::{Figure, Goal, Latencies};
use crate::line::{Line, request};
use crate::machine::Machine;
use crate::mix::of_everything;

const SIGN_INS: usize = 400;
/// Passwords that are stretched at the same time, before.
const AT_ONCE: usize = 2;
/// The others ask before it begins, and for longer than it lasts.
const CALM: Duration = Duration::from_secs(3);
const OTHERS: Duration = Duration::from_secs(10);
const MINUTE: f64 = 60.0;
const SEED: u64 = 4;

/// The two requests of a sign-in.
struct SignIn {
    start: Vec<u8>,
    finish: Vec<u8>,
}

/// What came of all of them.
struct Storm {
    began: Instant,
    took: Duration,
    failed: usize,
    latencies: Latencies,
}

pub(crate) fn is_wanted(plan: &Plan) -> bool {
    plan.wants("storm")
}

pub(crate) async fn measure(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>, crowd: &mut Crowd) {
    if !is_wanted(plan) {
        return;
    }
    let sign_ins = plan.scaled(SIGN_INS);
    let ready = prepare(machine, crowd, sign_ins).await;
    let before = machine.used();
    let mut storm = all_at_once(machine, &ready).await;
    let used = machine.used().since(before, sign_ins as f64 * 1e3);
    let figure = Figure::new(machine.name, format!("storm of {sign_ins} sign-ins"), used.sum(), "ms CPU")
        .goal(Goal::at_most(0.8))
        .and("server", used.server)
        .and("database", used.database)
        .and("sign-ins/s", sign_ins as f64 / storm.took.as_secs_f64())
        .and("failed", storm.failed as f64)
        .and("server MiB", machine.server.pss_mib())
        .and("database MiB", machine.database_mib());
    plan.report(found, figure.spread(&mut storm.latencies));

    let ready = prepare(machine, crowd, sign_ins).await;
    let others = of_everything(crowd, SEED, crowd.devices.len() as f64 / MINUTE, OTHERS);
    let lines = crate::line::Lines::new_each(machine.server.address);
    let began = Instant::now();
    let storming = async {
        sleep(CALM).await;
        all_at_once(machine, &ready).await
    };
    let (storm, served) = tokio::join!(storming, keep_to(&others, |due| crowd.ask(&lines, due.kind, due.who)));
    let from = storm.began - began;
    let what = format!("storm of {sign_ins} beside the mix");
    let figure = Figure::new(machine.name, &what, sign_ins as f64 / storm.took.as_secs_f64(), "sign-ins/s");
    plan.report(found, served.beside(figure).and("failed", (storm.failed + served.failed) as f64));
    for (kinds, name) in [(&[Kind::Poll, Kind::Pull][..], "poll or pull"), (&[Kind::Push], "push")] {
        let mut during = between(&served, kinds, from, from + storm.took);
        if !during.is_empty() {
            let figure = Figure::new(machine.name, format!("{what}, p99 of a {name}"), during.percentile(99.0), "ms");
            plan.report(found, figure.spread(&mut during));
        }
    }
}

/// Of those who asked while the storm went on.
fn between(served: &Served, kinds: &[Kind], from: Duration, to: Duration) -> Latencies {
    let mut latencies = Latencies::default();
    for (due, took) in &served.answered {
        if kinds.contains(&due.kind) && (from..to).contains(&due.at) {
            latencies.add(*took);
        }
    }
    latencies
}

async fn prepare(machine: &Machine, crowd: &Crowd, sign_ins: usize) -> Vec<SignIn> {
    let caller = Caller::new(&machine.server.url, Face::Cbor);
    let names = crowd.people.iter().map(|person| person.login_name.as_str()).cycle().take(sign_ins);
    let ready = stream::iter(names).map(|name| sign_in(&caller, name)).buffered(AT_ONCE);
    ready.collect().await
}

async fn sign_in(caller: &Caller, login_name: &str) -> SignIn {
    let proof = caller.prove(login_name, PASSWORD, None).await.expect("the password is right");
    let started = opaque::LoginStarted::new(b"any password will do").expect("the suite takes any password");
    let ke1 = Fixed(started.ke1.as_slice().try_into().expect("the suite writes its own lengths"));
    let start = LoginStart { tenant: None, login_name: login_name.into(), ke1, device: None };
    SignIn {
        start: request("POST", "/v1/auth/login/start", "", &Face::Cbor.encode(&start)),
        finish: request("POST", "/v1/auth/login/finish", "", &Face::Cbor.encode(&proof)),
    }
}

async fn all_at_once(machine: &Machine, ready: &[SignIn]) -> Storm {
    let began = Instant::now();
    let sign_ins = ready.iter().map(async |sign_in| {
        let came_in = come_in(machine, sign_in).await.is_some();
        (came_in, began.elapsed())
    });
    let mut storm = Storm { began, took: Duration::ZERO, failed: 0, latencies: Latencies::default() };
    for (came_in, took) in join_all(sign_ins).await {
        if came_in {
            storm.latencies.add(took);
        } else {
            storm.failed += 1;
        }
    }
    storm.took = began.elapsed();
    storm
}

async fn come_in(machine: &Machine, sign_in: &SignIn) -> Option<()> {
    let mut line = Line::try_to(machine.server.address).await.ok()?;
    let answer = line.try_ask(&sign_in.start).await.ok().filter(|answer| answer.status == 200)?;
    let _ke2: LoginStarted = Face::Cbor.decode(&answer.body).ok()?;
    let answer = line.try_ask(&sign_in.finish).await.ok().filter(|answer| answer.status == 200)?;
    let finished: LoginFinished = Face::Cbor.decode(&answer.body).ok()?;
    finished.tokens.map(|_| ())
}
