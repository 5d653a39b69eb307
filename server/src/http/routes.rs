//! Every route, on one page.
//!
//! The table is the only list there is: the server is configured from it, and the OpenAPI document is written from it.
//! What a route takes and answers is read off its handler's types.

use super::error::ApiError;
use super::extract::{self, Door, Nothing, Takes};
use super::{account, auth, capabilities, events, health, links, openapi, vaults};
use crate::auth::Caller;
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use selkie_protocol::vault::VaultMoved;
use serde::Serialize;
use std::future::Future;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

/// One line of the table.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) about: &'static str,
    pub(super) signed_in: bool,
    /// It answers with events, not with one message.
    pub(super) streams: bool,
    pub(super) status: StatusCode,
    pub(super) takes: Option<Described>,
    pub(super) answers: Described,
    /// Query parameters, each with what it means.
    pub(super) query: &'static [(&'static str, &'static str)],
    body: Room,
    serve: Box<dyn Fn(StatusCode, Room) -> actix_web::Route>,
}

/// How much a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Small,
    Usual,
    Push,
    Restore,
}

/// A message as the document knows it.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) collect: fn(&mut Vec<(String, RefOr<Schema>)>),
}

const TENANT: &[(&str, &str)] = &[("tenant", "The tenant's slug; the default tenant if missing.")];

#[rustfmt::skip]
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/v1/capabilities", "What this server is and takes.", open(capabilities::capabilities)),

        post("/v1/auth/register/start", "First step of making an account.", open(auth::register_start)).small(),
        post("/v1/auth/register/finish", "Makes the account.", open(auth::register_finish)).small().creates(),
        post("/v1/auth/challenge", "Fresh bytes for a device to sign.", open(auth::challenge)).small(),
        post("/v1/auth/login/start", "First step of a sign-in, alike for names that do not exist.", open(auth::login_start)).small(),
        post("/v1/auth/login/finish", "Proves the password and opens a session.", open(auth::login_finish)).small(),
        post("/v1/auth/refresh", "The next access and refresh token.", open(auth::refresh)).small(),
        post("/v1/auth/recover/start", "First step of a recovery, alike for names that do not exist.", open(auth::recover_start)).small(),
        post("/v1/auth/recover/finish", "Proves the recovery key and opens a session for setting a new password.", open(auth::recover_finish)).small(),
        post("/v1/auth/sign-out", "Ends this session, the others, or all.", signed_in(auth::sign_out)).small(),

        get("/v1/account", "The account as the server knows it.", signed_in(account::account)),
        get("/v1/account/keybag", "The sealed root secret; after a recent sign-in.", signed_in(account::keybag)),
        get("/v1/account/log", "The account log, by pages.", signed_in(account::log)).query(&[("from", "The first entry wanted; 0 if missing.")]),
        post("/v1/account/log", "Puts back entries that a restored server has lost.", signed_in(account::restore_log)),
        post("/v1/account/complete", "Gives a bare account its keys; after a recent sign-in.", signed_in(account::complete)),
        get("/v1/account/devices", "The account's devices.", signed_in(account::devices)),
        post("/v1/account/devices", "Certifies the device that asks; after a recent sign-in.", signed_in(account::add_device)),
        post("/v1/account/devices/{did}/revoke", "Revokes a device at once; after a recent sign-in.", signed_in(account::revoke_device)),
        post("/v1/account/password/start", "First step of a new password; after a recent sign-in.", signed_in(account::password_start)),
        post("/v1/account/password/finish", "Sets the new password.", signed_in(account::password_finish)),
        post("/v1/account/recovery-key", "Sets a new recovery key; after a recent sign-in.", signed_in(account::recovery_key)),
        get("/v1/account/sessions", "The account's sessions.", signed_in(account::sessions)),
        post("/v1/account/totp/start", "Begins an authenticator app as second factor; after a recent sign-in.", signed_in(account::totp_start)),
        post("/v1/account/totp/confirm", "Confirms it with its first code.", signed_in(account::totp_confirm)),
        post("/v1/account/totp/remove", "Removes all second factors; after a recent sign-in.", signed_in(account::totp_remove)),
        get("/v1/account/audit", "What happened to the account, newest first.", signed_in(account::audit)).query(&[("before", "Only entries before this number.")]),
        post("/v1/account/delete", "Schedules the end of the account; after a recent sign-in.", signed_in(account::delete)),
        post("/v1/account/keep", "Takes the deletion back.", signed_in(account::keep)),

        post("/v1/links", "Opens a channel for linking a device.", signed_in(links::open)),
        get("/v1/links/{channel}", "What was put into the channel so far.", open(links::state)).query(TENANT),
        post("/v1/links/{channel}/request", "The new device asks, once.", open(links::request)).small().query(TENANT),
        post("/v1/links/{channel}/answer", "The signed-in device certifies the new one; after a recent sign-in.", signed_in(links::answer)),
        post("/v1/links/{channel}/session", "The new device comes in, once.", open(links::session)).small().query(TENANT),

        post("/v1/vaults", "Makes a vault, by its first entry.", signed_in(vaults::create)).creates(),
        post("/v1/vaults/{vid}/push", "One entry, all of it or nothing; the same bytes again are answered as the first time.", signed_in(vaults::push)).body(Room::Push),
        get("/v1/vaults/{vid}/log", "What stands after a position, by pages.", signed_in(vaults::log)).query(PULL),
        get("/v1/vaults/{vid}/head", "Where the log stands, signed.", signed_in(vaults::head)),
        get("/v1/vaults/{vid}/controls", "CONTROL entries after a position, by pages.", signed_in(vaults::controls)).query(&[("after", "The position; 0 if missing.")]),
        get("/v1/vaults/{vid}/wraps", "The keys that are sealed to the caller.", signed_in(vaults::wraps)),
        post("/v1/vaults/{vid}/wraps", "Adds sealed keys for other members.", signed_in(vaults::add_wraps)).body(Room::Push),
        get("/v1/vaults/{vid}/checkpoint", "What a new device begins with.", signed_in(vaults::beginning)),
        get("/v1/vaults/{vid}/checkpoint/{n}/pages/{page}", "Live changes of one page, as far as an answer goes.", signed_in(vaults::checkpoint_page)).query(PAGE),
        post("/v1/vaults/{vid}/records", "What is live of some records, as far as an answer goes.", signed_in(vaults::records)),
        post("/v1/vaults/{vid}/restore-tail", "Puts back what the server has acknowledged and lost.", signed_in(vaults::restore_tail)).body(Room::Restore),
        get("/v1/poll", "What is new in all vaults of the session.", signed_in(vaults::poll)).query(&[("known", "The state that was answered before.")]),
        get("/v1/events", "Hints, as server-sent events: `vault` with a VaultMoved, `resync` when some may have been missed. Poll for facts.", streams(events::events)).streams(),
        get("/v1/people/{uid}/log", "The account log of somebody in the same tenant, by pages.", signed_in(vaults::person)).query(&[("from", "The first entry wanted; 0 if missing.")]),
        post("/v1/people/{uid}/log", "The same for somebody in the same tenant, by whoever has their log.", signed_in(account::restore_log_of)),
    ]
}

const PULL: &[(&str, &str)] = &[
    ("after", "The position; 0 if missing."),
    ("max_entries", "Entries wanted at most."),
    ("max_bytes", "Bytes wanted at most, unless a single entry is longer."),
    ("payloads", "`live` leaves out those that are superseded; `all` if missing."),
];

const PAGE: &[(&str, &str)] = &[
    ("from", "The first change wanted, by its place in the page; 0 if missing."),
    ("payloads", "`none` leaves them out; `all` if missing."),
];

/// Sets up an app with every route and what surrounds them.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .service(web::resource(openapi::PATH).route(web::get().to(openapi::serve)))
        .service(web::resource("/healthz").route(web::get().to(health::healthz)))
        .service(web::resource("/readyz").route(web::get().to(health::readyz)))
        .service(web::resource("/metrics").route(web::get().to(health::metrics)));
    for (path, routes) in by_path() {
        let mut resource = web::resource(path);
        for route in routes {
            resource = resource.route((route.serve)(route.status, route.body));
        }
        config.service(resource);
    }
}

/// The framework holds a request against one path after the other. A pattern costs it many times what fixed text does,
/// so those come last: a poll would pay for all of them.
fn by_path() -> Vec<(&'static str, Vec<Route>)> {
    let mut by_path: Vec<(&'static str, Vec<Route>)> = Vec::new();
    for route in routes() {
        match by_path.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, routes)) => routes.push(route),
            None => by_path.push((route.path, vec![route])),
        }
    }
    by_path.sort_by_key(|(path, _)| is_pattern(path));
    by_path
}

fn is_pattern(path: &str) -> bool {
    path.contains('{')
}

/// What is known of a handler: how to serve it, what it takes, what it answers.
struct Handling {
    signed_in: bool,
    takes: Option<Described>,
    answers: Described,
    serve: Box<dyn Fn(Method, StatusCode, Room) -> actix_web::Route>,
}

/// A route that anybody may ask.
fn open<M, A, F, Fut>(handler: F) -> Handling
where
    M: Takes + MaybeDescribed + 'static,
    A: Serialize + ToSchema + 'static,
    F: Fn(Door, M) -> Fut + Copy + 'static,
    Fut: Future<Output = Result<A, ApiError>> + 'static,
{
    let serve = move |method, status, room| {
        web::method(method).to(move |request: HttpRequest, payload: web::Payload| async move {
            let rooms = extract::rooms(&request);
            let door = Door::open(&request)?;
            let message = extract::message(&request, payload, limit(&door, room)).await?;
            let _permit = extract::permit(&rooms)?;
            let face = door.face();
            Ok::<_, ApiError>(extract::answer(face, status, &handler(door, message).await?))
        })
    };
    Handling { signed_in: false, takes: M::described(), answers: described::<A>(), serve: Box::new(serve) }
}

/// A route for who carries an access token.
fn signed_in<M, A, F, Fut>(handler: F) -> Handling
where
    M: Takes + MaybeDescribed + 'static,
    A: Serialize + ToSchema + 'static,
    F: Fn(Door, Caller, M) -> Fut + Copy + 'static,
    Fut: Future<Output = Result<A, ApiError>> + 'static,
{
    let serve = move |method, status, room| {
        web::method(method).to(move |request: HttpRequest, payload: web::Payload| async move {
            let rooms = extract::rooms(&request);
            let door = Door::open(&request)?;
            let caller = {
                let _permit = extract::permit(&rooms)?;
                door.caller().await?
            };
            let message = extract::message(&request, payload, limit(&door, room)).await?;
            let _permit = extract::permit(&rooms)?;
            let face = door.face();
            Ok::<_, ApiError>(extract::answer(face, status, &handler(door, caller, message).await?))
        })
    };
    Handling { signed_in: true, takes: M::described(), answers: described::<A>(), serve: Box::new(serve) }
}

/// A route that goes on answering who carries an access token.
fn streams<F, Fut>(handler: F) -> Handling
where
    F: Fn(Door, Caller) -> Fut + Copy + 'static,
    Fut: Future<Output = Result<HttpResponse, ApiError>> + 'static,
{
    let serve = move |method, _, room| {
        web::method(method).to(move |request: HttpRequest, payload: web::Payload| async move {
            let rooms = extract::rooms(&request);
            let door = Door::open(&request)?;
            let Nothing = extract::message(&request, payload, limit(&door, room)).await?;
            let _permit = extract::permit(&rooms)?;
            let caller = door.caller().await?;
            handler(door, caller).await
        })
    };
    Handling { signed_in: true, takes: None, answers: described::<VaultMoved>(), serve: Box::new(serve) }
}

fn limit(door: &Door, room: Room) -> usize {
    let settings = &door.rooms().settings;
    match room {
        Room::Small => settings.auth_body_limit,
        Room::Usual => settings.body_limit,
        Room::Push => settings.push_body_limit,
        Room::Restore => settings.restore_body_limit,
    }
}

fn get(path: &'static str, about: &'static str, handling: Handling) -> Route {
    route(Method::GET, path, about, handling)
}

fn post(path: &'static str, about: &'static str, handling: Handling) -> Route {
    route(Method::POST, path, about, handling)
}

fn route(method: Method, path: &'static str, about: &'static str, handling: Handling) -> Route {
    let (served_by, serve) = (method.clone(), handling.serve);
    Route {
        method,
        path,
        about,
        signed_in: handling.signed_in,
        streams: false,
        status: StatusCode::OK,
        takes: handling.takes,
        answers: handling.answers,
        query: &[],
        body: Room::Usual,
        serve: Box::new(move |status, room| serve(served_by.clone(), status, room)),
    }
}

impl Route {
    /// For requests of strangers, which need little room.
    fn small(self) -> Self {
        self.body(Room::Small)
    }

    fn body(self, body: Room) -> Self {
        Route { body, ..self }
    }

    fn streams(self) -> Self {
        Route { streams: true, ..self }
    }

    fn creates(self) -> Self {
        Route { status: StatusCode::CREATED, ..self }
    }

    fn query(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Route { query, ..self }
    }
}

/// What the document says of a body: a message, or nothing.
trait MaybeDescribed {
    fn described() -> Option<Described>;
}

impl MaybeDescribed for Nothing {
    fn described() -> Option<Described> {
        None
    }
}

impl<M: ToSchema> MaybeDescribed for M {
    fn described() -> Option<Described> {
        Some(described::<M>())
    }
}

fn described<T: ToSchema>() -> Described {
    fn collect<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
    Described { name: T::name().into_owned(), collect: collect::<T> }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pattern_stands_before_a_fixed_path() {
        assert!(by_path().is_sorted_by_key(|(path, _)| is_pattern(path)));
        let total: usize = by_path().iter().map(|(_, routes)| routes.len()).sum();
        assert_eq!(total, routes().len(), "each is served");
    }

    #[test]
    fn strangers_are_given_little_room() {
        let generous =
            routes().into_iter().filter(|route| !route.signed_in && route.takes.is_some() && route.body != Room::Small);
        assert_eq!(generous.map(|route| route.path).collect::<Vec<_>>(), [""; 0]);
    }
}
