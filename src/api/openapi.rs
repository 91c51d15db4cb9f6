//! What does the OpenAPI document say beyond the routes?

use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// The frame of the document; the routes fill it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "UpNext",
        description = "What will this person want next, within 15, 30 and 60 seconds? Errors are \
                       `application/problem+json` (RFC 9457) with a stable `code`; every answer carries `x-request-id`.",
    ),
    tags(
        (name = "recommendations", description = "Ranked lists, one for each horizon"),
        (name = "sessions", description = "Frames as they come"),
        (name = "live", description = "Frames stream in, lists stream out; docs/live.md has the protocol"),
        (name = "search", description = "Items that look or read like something"),
        (name = "items", description = "The catalogue"),
        (name = "events", description = "What people did"),
        (name = "operations", description = "Health and metrics"),
        (name = "admin", description = "For those who run the service"),
    ),
    security(("bearer" = []), ("api_key" = [])),
    modifiers(&Keys)
)]
pub(super) struct Document;

struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components
            .add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-api-key"))));
    }
}
