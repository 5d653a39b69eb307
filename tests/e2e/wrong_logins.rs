//! Thousands of wrong sign-ins from thousands of addresses: the server stays small, and who it is there for comes in.
//!
//! Two thousand as a rule, ten thousand with `SELKIE_LONG=1`. What a single limit does is told in the limiter's own
//! tests; here all of them are as they are delivered, behind a proxy that names the addresses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use selkie_e2e::caller::Caller;
use selkie_e2e::device::{Device, Person};
use selkie_e2e::measured::pss_mib_of;
use selkie_e2e::network::Network;
use selkie_e2e::premises::Premises;
use selkie_e2e::program::ServerProcess;
use selkie_protocol::bytes::Fixed;
use selkie_protocol::session::{LoginFinish, LoginStart, LoginStarted};
use selkie_protocol::{ErrorBody, ErrorCode, Face, opaque};
use tokio::task::JoinSet;

const FIGURES: &str = "whoever-watches-has-this-token-of-32-bytes";
/// At the same time.
const ATTACKERS: usize = 16;
/// Wrong sign-ins from one address, and for one name that was made up.
const OF_AN_ADDRESS: usize = 2;
const FOR_A_NAME: usize = 3;
/// One in so many is for the name of somebody real.
const FOR_ANA: usize = 10;
/// What the server may grow by. A limiter's key takes some 40 bytes, and ten thousand tries leave fewer than 30,000 of
/// them: a megabyte. The rest is the allocator's and SQLite's, whatever the number of tries.
const GROWTH_MIB: f64 = 24.0;
/// Within this the server takes its figures again: it is a chore of every ten seconds, asked for every five.
const FIGURES_PERIOD: Duration = Duration::from_secs(20);
/// Within this somebody real comes in, most of which their own device takes for stretching the password.
const SIGN_IN_LIMIT: Duration = Duration::from_secs(15);

#[allow(clippy::print_stdout, reason = "what it costs is a finding, too")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_wrong_sign_ins_cost_little_memory_and_keep_nobody_out() {
    let tries = if std::env::var_os("SELKIE_LONG").is_some() { 10_000 } else { 2_000 };
    let premises = Premises::embedded();
    let network = Network::new().await;
    let settings = format!("[registration]\npolicy = \"open\"\n[metrics]\ntoken = \"{FIGURES}\"\n");
    let behind_a_proxy = [("SELKIE_SERVER__TRUSTED_PROXIES", "127.0.0.1")];
    let server = ServerProcess::start(&premises, &network, &settings, &behind_a_proxy).await;
    let (process, url) = (server.process_id(), format!("http://{}", server.address()));

    let laptop = Device::new(&network.url(), "laptop");
    let (ana, _) = laptop.makes_an_account("ana@example.org", "seven silver swans").await;
    let phone = Device::new(&network.url(), "phone");
    let (bo, _) = phone.makes_an_account("bo@example.org", "nine nimble newts").await;
    let alone = signs_in(&laptop, &ana).await;
    // As much at once as there is going to be, so that only what is kept is measured.
    Attack::new(&url).begin(10 * ATTACKERS).finish().await;
    let before = pss_mib_of(process);

    let began = Instant::now();
    let attack = Attack::new(&url).begin(tries);
    attack.is_under_way().await;
    // Ana's name is the one that they try, so that strangers are refused under it; her own device is known.
    let under_attack = [signs_in(&laptop, &ana).await, signs_in(&phone, &bo).await];
    let found = attack.finish().await;
    let grown = pss_mib_of(process) - before;
    let keys = remembered_keys(&url).await;
    println!(
        "{found:?} in {:.1?}; a sign-in took {alone:.1?} before and {under_attack:.1?} meanwhile; {grown:.1} MiB and \
         {keys} limiter keys more",
        began.elapsed()
    );
    assert_eq!(found.other, 0, "an answer was neither 401 nor 429");
    assert!(found.tries >= tries && found.refused > found.tries / 2, "{found:?}: hardly one was looked at");
    assert!(found.limited > 0, "{found:?}: nobody stood before the name of Ana");
    for took in under_attack {
        assert!(took < SIGN_IN_LIMIT, "a real sign-in took {took:.1?}");
    }
    assert!(grown < GROWTH_MIB, "{grown:.1} MiB more after {} wrong sign-ins", found.tries);
    // By address: any request, and sign-ins. By name: a minute's and a day's.
    let most = 2 * found.tries.div_ceil(OF_AN_ADDRESS) + 2 * found.tries.div_ceil(FOR_A_NAME) + 200;
    assert!((1..=most).contains(&keys), "{keys} limiter keys, where {most} would be one for each");
}

async fn signs_in(device: &Device, person: &Person) -> Duration {
    let began = Instant::now();
    device.signs_in(person).await.expect("a real person comes in");
    began.elapsed()
}

/// What was answered.
#[derive(Debug, Default)]
struct Found {
    tries: usize,
    /// 401: not this password, or not in time.
    refused: usize,
    /// 429
    limited: usize,
    other: usize,
}

#[derive(Debug, Default)]
struct Counts {
    tries: AtomicUsize,
    refused: AtomicUsize,
    limited: AtomicUsize,
    other: AtomicUsize,
    may_end: AtomicBool,
}

/// Strangers who do not stretch what they guess: it is wrong anyway, and the server cannot know.
struct Attack {
    caller: Caller,
    ke1: opaque::Ke1Bytes,
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

impl Attack {
    fn new(url: &str) -> Self {
        let started = opaque::LoginStarted::new(b"a guess").unwrap();
        let ke1 = Fixed(started.ke1.try_into().unwrap());
        Attack { caller: Caller::new(url, Face::Cbor), ke1, counts: Arc::default(), tasks: JoinSet::new() }
    }

    /// Goes on until there were so many, and until it is told that it may end.
    fn begin(mut self, tries: usize) -> Self {
        for _ in 0..ATTACKERS {
            let (caller, ke1, counts) = (self.caller.clone(), self.ke1, self.counts.clone());
            self.tasks.spawn(async move {
                loop {
                    let number = counts.tries.fetch_add(1, Ordering::SeqCst);
                    if number >= tries && counts.may_end.load(Ordering::SeqCst) {
                        counts.tries.fetch_sub(1, Ordering::SeqCst);
                        return;
                    }
                    let counter = match try_once(&caller, ke1, number).await {
                        401 => &counts.refused,
                        429 => &counts.limited,
                        _ => &counts.other,
                    };
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        self
    }

    /// Returns when the name of Ana is exhausted for strangers.
    async fn is_under_way(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.counts.limited.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "nobody was refused for trying too often: {:?}", self.counts);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn finish(mut self) -> Found {
        self.counts.may_end.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let read = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        let Counts { tries, refused, limited, other, .. } = &*self.counts;
        Found { tries: read(tries), refused: read(refused), limited: read(limited), other: read(other) }
    }
}

/// Both steps of a sign-in, from an address and under a name that follow from the number. The status it ends with.
async fn try_once(caller: &Caller, ke1: opaque::Ke1Bytes, number: usize) -> u16 {
    let [_, a, b, c] = u32::try_from(number / OF_AN_ADDRESS).unwrap().to_be_bytes();
    let from = format!("10.{a}.{b}.{c}");
    let name = match number % FOR_ANA {
        0 => "ana@example.org".to_owned(),
        _ => format!("nobody-{}@example.org", number / FOR_A_NAME),
    };
    let start = LoginStart { tenant: None, login_name: name.as_str().into(), ke1, device: None };
    let reply = send(caller, &from, "/v1/auth/login/start", &start).await;
    if reply.status != 200 {
        return refusal(&reply);
    }
    let started: LoginStarted = reply.read();
    let finish = LoginFinish {
        login_id: started.login_id,
        ke3: Fixed([7; _]),
        second_factor: None,
        device: None,
        app: None,
        seal: 0,
    };
    refusal(&send(caller, &from, "/v1/auth/login/finish", &finish).await)
}

async fn send(caller: &Caller, from: &str, path: &str, message: &impl serde::Serialize) -> selkie_e2e::message::Reply {
    let mut headers = caller.headers(None);
    headers.push(("x-forwarded-for".to_owned(), from.as_bytes().to_vec()));
    caller.send("POST", path, &headers, Face::Cbor.encode(message)).await
}

/// The status, if it goes with our word for it.
#[allow(clippy::print_stdout, reason = "what else was answered is asked first when this fails")]
fn refusal(reply: &selkie_e2e::message::Reply) -> u16 {
    match (reply.status, reply.read::<ErrorBody>().code) {
        (status @ 401, ErrorCode::InvalidLogin) | (status @ 429, ErrorCode::RateLimited) => status,
        (status, code) => {
            println!("answered {status} {code:?}");
            0
        }
    }
}

/// As the figures have it, once they were taken after this: they say another number than at first, or it has been so
/// long that they were taken again and it is the same.
async fn remembered_keys(url: &str) -> usize {
    let caller = Caller::new(url, Face::Json);
    let asked = Instant::now();
    let at_first = limiter_keys(&caller).await;
    loop {
        let keys = limiter_keys(&caller).await;
        if keys != at_first || asked.elapsed() > FIGURES_PERIOD {
            return keys;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// As the figures have it at the moment; none before they were taken.
async fn limiter_keys(caller: &Caller) -> usize {
    let bearer = vec![("authorization".to_owned(), format!("Bearer {FIGURES}").into_bytes())];
    let figures = caller.send("GET", "/metrics", &bearer, Vec::new()).await;
    let figures = String::from_utf8(figures.body).unwrap();
    let keys = figures.lines().find_map(|line| line.strip_prefix("selkie_limiter_keys "));
    keys.map_or(0.0, |keys| keys.parse::<f64>().unwrap()) as usize
}
