//! The routes, described: OpenAPI 3.1, written from the same table the server is configured from.

use super::health::Readiness;
use super::routes::{Described, Route, routes};
use actix_web::HttpResponse;
use actix_web::http::Method;
use selkie_protocol::{ErrorBody, Face};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathsBuilder,
    Ref, RefOr, Required, Response, ResponseBuilder, Schema, SecurityRequirement, Type,
};
use utoipa::{PartialSchema as _, ToSchema};

/// Where the document is served.
pub(super) const PATH: &str = "/v1/openapi.json";
const BEARER: &str = "access_token";
const ERROR: &str = "ErrorBody";

/// The whole document.
pub fn document() -> OpenApi {
    let mut schemas = Vec::new();
    schemas.push((ERROR.to_owned(), ErrorBody::schema()));
    ErrorBody::schemas(&mut schemas);
    schemas.push(("Readiness".to_owned(), Readiness::schema()));
    let mut paths: BTreeMap<&'static str, PathItem> = BTreeMap::new();
    for route in routes() {
        for described in route.takes.iter().chain([&route.answers]) {
            (described.collect)(&mut schemas);
        }
        let item = PathItem::new(method_of(&route), operation(&route));
        match paths.get_mut(route.path) {
            Some(known) => known.merge_operations(item),
            None => drop(paths.insert(route.path, item)),
        }
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas.into_iter().collect::<BTreeMap<String, RefOr<Schema>>>())
        .security_scheme(BEARER, SecurityScheme::Http(bearer))
        .build();
    let about = "Every message has a JSON and a CBOR face, chosen by Content-Type and Accept; byte strings are base64url \
                 without padding in JSON. Errors are problem details with a stable `code`.";
    let info = InfoBuilder::new()
        .title("Selkie")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(about))
        .license(Some(utoipa::openapi::License::new("Apache-2.0")))
        .build();
    let paths = paths.into_iter().fold(PathsBuilder::new(), |paths, (path, item)| paths.path(path, item)).build();
    OpenApiBuilder::new().info(info).paths(with_health(paths)).components(Some(components)).build()
}

pub(super) async fn serve() -> HttpResponse {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let text = DOCUMENT.get_or_init(|| document().to_json().expect("the document is plain data"));
    HttpResponse::Ok().content_type(Face::JSON).body(text.clone())
}

fn operation(route: &Route) -> utoipa::openapi::path::Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(operation_id(route)))
        .summary(Some(route.about))
        .tag(tag(route.path))
        .response(route.status.as_str(), if route.streams { events(&route.answers) } else { answer(&route.answers) })
        .response("default", refusal());
    for name in path_parameters(route.path) {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(text()))
                .description(Some(match name {
                    "vid" | "uid" => "32 bytes, base64url without padding",
                    "n" | "page" => "A number.",
                    _ => "16 bytes, base64url without padding",
                })),
        );
    }
    for (name, about) in route.query {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(*name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .schema(Some(text()))
                .description(Some(*about)),
        );
    }
    if let Some(message) = &route.takes {
        let body = RequestBodyBuilder::new()
            .content(Face::JSON, content(&message.name))
            .content(Face::CBOR, content(&message.name))
            .required(Some(Required::True))
            .build();
        operation = operation.request_body(Some(body));
    }
    if route.signed_in {
        operation = operation.security(SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, []));
    }
    operation.build()
}

fn with_health(mut paths: utoipa::openapi::Paths) -> utoipa::openapi::Paths {
    let operation =
        |id: &str, about: &str| OperationBuilder::new().operation_id(Some(id)).summary(Some(about)).tag("health");
    let ready = ContentBuilder::new().schema(Some(Ref::from_schema_name("Readiness"))).build();
    let plain = |about: &str| ResponseBuilder::new().description(about).build();
    let alive = operation("healthz", "The process answers.").response("200", plain("It does."));
    let readiness = operation("readyz", "The database and the blob store answer.")
        .response("200", ResponseBuilder::new().description("Both do.").content(Face::JSON, ready.clone()).build())
        .response(
            "503",
            ResponseBuilder::new().description("One does not.").content(Face::PROBLEM_JSON, ready).build(),
        );
    let metrics = operation("metrics", "Prometheus metrics, for who has the metrics token.")
        .response("200", plain("The text format."))
        .response("default", refusal());
    let itself = operation("openapi", "This document.").response("200", plain("OpenAPI 3.1."));
    for (path, operation) in [("/healthz", alive), ("/readyz", readiness), ("/metrics", metrics), (PATH, itself)] {
        paths.add_path_operation(path, vec![HttpMethod::Get], operation.build());
    }
    paths
}

fn answer(message: &Described) -> Response {
    ResponseBuilder::new()
        .description("Done.")
        .content(Face::JSON, content(&message.name))
        .content(Face::CBOR, content(&message.name))
        .build()
}

/// The message that the events of a stream carry as JSON.
fn events(message: &Described) -> Response {
    ResponseBuilder::new()
        .description("Events, until the session ends.")
        .content("text/event-stream", content(&message.name))
        .build()
}

fn refusal() -> Response {
    ResponseBuilder::new()
        .description("Refused, or failed; the code says why.")
        .content(Face::PROBLEM_JSON, content(ERROR))
        .content(Face::PROBLEM_CBOR, content(ERROR))
        .build()
}

fn content(name: &str) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn method_of(route: &Route) -> HttpMethod {
    if route.method == Method::GET { HttpMethod::Get } else { HttpMethod::Post }
}

/// `post_account_devices_revoke`
fn operation_id(route: &Route) -> String {
    let words = route.path.split('/').skip(2).filter(|word| !word.starts_with('{'));
    let path: Vec<String> = words.map(|word| word.replace('-', "_")).collect();
    let by_id = if route.path.ends_with('}') { "_by_id" } else { "" };
    format!("{}_{}{by_id}", route.method.as_str().to_lowercase(), path.join("_"))
}

fn tag(path: &'static str) -> &'static str {
    path.split('/').nth(2).unwrap_or("server")
}

fn path_parameters(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|word| word.strip_prefix('{')?.strip_suffix('}'))
}
