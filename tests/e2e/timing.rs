//! Whether a name exists cannot be told from how long the answer takes. On the whole request, as a stranger measures
//! it.

use std::time::{Duration, Instant};

use selkie_e2e::caller::Caller;
use selkie_e2e::on_both_backends;
use selkie_e2e::server::TestServer;
use selkie_protocol::session::{LoginFinish, LoginFinished, LoginStart, LoginStarted};
use selkie_protocol::{ErrorCode, Face, Fixed, opaque};

const OF_EACH: usize = 10_000;
/// The usual alarm of leakage tests: one in a hundred thousand by chance.
const ALARM: f64 = 4.5;

on_both_backends! {
    #[ignore = "takes two minutes and a quiet machine: ./check --long"]
    async fn an_unknown_name_takes_as_long_as_a_known_one(backend: Backend) {
        let server = TestServer::start(backend).await;
        // Without the network in between, which would add its own unsteadiness.
        let caller = Caller::new(&format!("http://{}", server.address()), Face::Cbor);
        for n in 0..20 {
            server.caller(Face::Cbor).register(&known(n), "seven silver swans", None).await.unwrap();
        }
        let ke1 = Fixed(opaque::LoginStarted::new(b"any").unwrap().ke1.try_into().unwrap());
        let (mut begun, mut whole) = (Kinds::default(), Kinds::default());
        for n in 0..2 * OF_EACH {
            // One of each kind in every pair; which comes first follows no rhythm that something else may have.
            let is_known = ((n / 2).wrapping_mul(0x9e37_79b9) >> 16) % 2 == n % 2;
            let name = if is_known { known(n % 20) } else { format!("other{}@example.org", n % 20) };
            let start = LoginStart { tenant: None, login_name: name.into(), ke1, device: None };
            let since = Instant::now();
            let started: LoginStarted = caller.post("/v1/auth/login/start", None, &start).await.unwrap();
            let half = since.elapsed();
            // Whoever does not know the password can only guess the last message, for either kind of name.
            let finish = LoginFinish {
                login_id: started.login_id,
                ke3: Fixed([7; 64]),
                second_factor: None,
                device: None,
                app: None,
                seal: 0,
            };
            let refused = caller.post::<LoginFinished>("/v1/auth/login/finish", None, &finish).await.unwrap_err();
            let all = since.elapsed();
            assert_eq!(refused.body.code, ErrorCode::InvalidLogin);
            begun.add(is_known, half);
            whole.add(is_known, all);
        }
        begun.cannot_be_told_apart("the first request");
        whole.cannot_be_told_apart("the whole sign-in");
    }
}

/// How long things took, in seconds.
#[derive(Default)]
struct Kinds {
    known: Vec<f64>,
    unknown: Vec<f64>,
}

impl Kinds {
    fn add(&mut self, is_known: bool, taken: Duration) {
        let kind = if is_known { &mut self.known } else { &mut self.unknown };
        kind.push(taken.as_secs_f64());
    }

    fn cannot_be_told_apart(&self, what: &str) {
        let (known, unknown) = (self.known.len(), self.unknown.len());
        // The slowest tenth is other people's work.
        let found: Vec<f64> =
            [1.0, 0.9, 0.5].map(|share| welch(&fastest(&self.known, share), &fastest(&self.unknown, share))).to_vec();
        #[allow(clippy::print_stdout, reason = "how far apart they were is a finding, too")]
        {
            println!("{what}: t = {found:.2?} among all, nine tenths, half of {known} and {unknown}");
        }
        assert!(found.iter().all(|t| t.abs() < ALARM), "{what}: t = {found:.2?}");
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
