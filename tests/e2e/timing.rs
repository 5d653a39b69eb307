//! Whether a name exists cannot be told from how long the answer takes. On the whole request, as a stranger measures
//! it.

use std::time::Instant;

use selkie_e2e::caller::Caller;
use selkie_e2e::on_both_backends;
use selkie_e2e::server::TestServer;
use selkie_protocol::session::{LoginStart, LoginStarted};
use selkie_protocol::{Face, Fixed, opaque};

const OF_EACH: usize = 10_000;
/// The usual alarm of leakage tests: one in a hundred thousand by chance.
const ALARM: f64 = 4.5;

on_both_backends! {
    #[ignore = "takes a minute and a quiet machine: ./check --long"]
    async fn an_unknown_name_takes_as_long_as_a_known_one(backend: Backend) {
        let server = TestServer::start(backend).await;
        // Without the network in between, which would add its own unsteadiness.
        let caller = Caller::new(&format!("http://{}", server.address()), Face::Cbor);
        for n in 0..20 {
            server.caller(Face::Cbor).register(&known(n), "seven silver swans", None).await.unwrap();
        }
        let ke1 = Fixed(opaque::LoginStarted::new(b"any").unwrap().ke1.try_into().unwrap());
        let (mut of_known, mut of_unknown) = (Vec::new(), Vec::new());
        for n in 0..2 * OF_EACH {
            // Neither kind always comes first, nor in a rhythm that something else may have.
            let is_known = (n * 7919 + n / 3) % 2 == 0;
            let name = if is_known { known(n % 20) } else { format!("other{}@example.org", n % 20) };
            let start = LoginStart { tenant: None, login_name: name.into(), ke1, device: None };
            let begun = Instant::now();
            let _: LoginStarted = caller.post("/v1/auth/login/start", None, &start).await.unwrap();
            let taken = begun.elapsed().as_secs_f64();
            if is_known { of_known.push(taken) } else { of_unknown.push(taken) }
        }
        // The slowest tenth is other people's work.
        for share in [1.0, 0.9, 0.5] {
            let t = welch(&fastest(&of_known, share), &fastest(&of_unknown, share));
            assert!(t.abs() < ALARM, "t = {t:.2} among the fastest {share} of {} and {}", of_known.len(), of_unknown.len());
        }
    }
}

fn known(n: usize) -> String {
    format!("known{n}@example.org")
}

fn fastest(times: &[f64], share: f64) -> Vec<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let kept = sorted.iter().take((sorted.len() as f64 * share) as usize);
    kept.copied().collect()
}

/// Welch's t: how many standard errors lie between two means.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let moments = |sample: &[f64]| {
        let count = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / count;
        let variance = sample.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean_one, error_one), (mean_other, error_other)) = (moments(one), moments(other));
    (mean_one - mean_other) / (error_one + error_other).sqrt()
}

#[test]
fn welch_sees_a_difference_and_no_other() {
    let base: Vec<f64> = (0..1000).map(|n| f64::from(n % 10)).collect();
    let shifted: Vec<f64> = base.iter().map(|value| value + 1.0).collect();
    assert!(welch(&base, &base).abs() < 0.001);
    assert!(welch(&base, &shifted) < -ALARM);
}
