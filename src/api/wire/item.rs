//! How are items written and read?

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Rfc3339;
use crate::api::extract::from_value;
use crate::api::problem::ApiError;
use crate::domain::{Attribute, Item, ItemId};
use crate::engine::{ImageView, ItemPage, ItemView, ItemWrite};

/// A value of an item's own attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Attribute)]
pub(in crate::api) enum AttributeValue {
    /// True or false.
    Flag(bool),
    /// A number, for range filters.
    Number(f64),
    /// A word or an id.
    Text(String),
    /// Several words, each of which a filter can match.
    Texts(Vec<String>),
}

/// An item to be written. A row of an item batch is one of these with an `item_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ItemWrite)]
pub(in crate::api) struct ItemBody {
    /// The owner's id; needed in a batch, elsewhere the path has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, examples("film-42"))]
    pub(in crate::api) item_id: Option<ItemId>,
    /// A line to show.
    #[serde(default)]
    pub(in crate::api) title: String,
    /// A paragraph to show or search.
    #[serde(default)]
    pub(in crate::api) description: String,
    /// Free labels.
    #[serde(default)]
    pub(in crate::api) tags: Vec<String>,
    /// Labels from the owner's own hierarchy, for example genres.
    #[serde(default)]
    pub(in crate::api) categories: Vec<String>,
    /// The regions it may be shown in; none means everywhere.
    #[serde(default)]
    pub(in crate::api) regions: Vec<String>,
    /// Playing time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) duration_s: Option<f32>,
    /// The least age in years at which it may be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) age_rating: Option<u8>,
    /// Not to be shown before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) available_from: Option<Rfc3339>,
    /// Not to be shown from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) available_until: Option<Rfc3339>,
    /// Further fields to filter by.
    #[serde(default)]
    pub(in crate::api) attributes: BTreeMap<String, AttributeValue>,
    /// Pictures as base64 of JPEG, PNG, WebP, GIF or BMP files, 1 to 16; without this field the item keeps those that
    /// it has, an empty list removes them.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "images")]
    pub(in crate::api) images_base64: Option<Vec<String>>,
    /// What an export says of the item's pictures. It is read and not used: pictures come as pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) exported_images: Option<Vec<ExportedImage>>,
}

/// A picture of an item that was exported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ExportedImage {
    /// SHA-256 of the uploaded file, in hexadecimal.
    pub(in crate::api) sha256: String,
    /// Width in pixels.
    pub(in crate::api) width: u32,
    /// Height in pixels.
    pub(in crate::api) height: u32,
}

impl ItemBody {
    /// The item as an export has it.
    pub(in crate::api) fn exported(view: &ItemView) -> Self {
        let image = |image: &ImageView| ExportedImage {
            sha256: image.sha256.clone(),
            width: image.width,
            height: image.height,
        };
        let images: Vec<ExportedImage> = view.images.iter().map(image).collect();
        Self { exported_images: Some(images).filter(|images| !images.is_empty()), ..Self::from(&view.item) }
    }
}

impl From<&Item> for ItemBody {
    fn from(item: &Item) -> Self {
        let attributes = item.attributes.iter().map(|(name, value)| (name.clone(), value.into())).collect();
        Self {
            item_id: Some(item.id.clone()),
            title: item.title.clone(),
            description: item.description.clone(),
            tags: item.tags.clone(),
            categories: item.categories.clone(),
            regions: item.regions.clone(),
            duration_s: item.duration_s,
            age_rating: item.age_rating,
            available_from: item.available_from.map(Rfc3339),
            available_until: item.available_until.map(Rfc3339),
            attributes,
            images_base64: None,
            exported_images: None,
        }
    }
}

impl From<&Attribute> for AttributeValue {
    fn from(value: &Attribute) -> Self {
        match value {
            Attribute::Flag(flag) => Self::Flag(*flag),
            Attribute::Number(number) => Self::Number(*number),
            Attribute::Text(text) => Self::Text(text.clone()),
            Attribute::Texts(texts) => Self::Texts(texts.clone()),
        }
    }
}

impl From<AttributeValue> for Attribute {
    fn from(value: AttributeValue) -> Self {
        match value {
            AttributeValue::Flag(flag) => Self::Flag(flag),
            AttributeValue::Number(number) => Self::Number(number),
            AttributeValue::Text(text) => Self::Text(text),
            AttributeValue::Texts(texts) => Self::Texts(texts),
        }
    }
}

/// Checks `body` and turns it into a write. `path_id` is the id in the path, if there is one; `uploads` are pictures
/// that came beside the JSON.
pub(in crate::api) fn write_of(
    mut body: ItemBody,
    path_id: Option<&ItemId>,
    uploads: Option<Vec<Bytes>>,
    max_images: usize,
) -> Result<ItemWrite, ApiError> {
    let id = match (path_id, body.item_id.take()) {
        (Some(path), Some(own)) if *path != own => {
            return Err(ApiError::field("item_id", "must be the id in the path"));
        }
        (Some(path), _) => path.clone(),
        (None, Some(own)) => own,
        (None, None) => return Err(ApiError::field("item_id", "is missing")),
    };
    let inline = body.images_base64.take().map(decode_images).transpose()?;
    if inline.is_some() && uploads.is_some() {
        return Err(ApiError::field("images_base64", "pictures come either as parts or as base64, not both"));
    }
    let images = uploads.or(inline);
    if images.as_ref().is_some_and(|images| images.len() > max_images) {
        return Err(ApiError::field("images_base64", format!("an item may have at most {max_images} images")));
    }
    let item = Item {
        id,
        title: body.title,
        description: body.description,
        tags: body.tags,
        categories: body.categories,
        regions: body.regions,
        duration_s: body.duration_s,
        age_rating: body.age_rating,
        available_from: body.available_from.map(|t| t.0),
        available_until: body.available_until.map(|t| t.0),
        attributes: body.attributes.into_iter().map(|(name, value)| (name, value.into())).collect(),
    };
    item.check().map_err(|error| ApiError::field(error.field, error.reason))?;
    Ok(ItemWrite { item, images })
}

fn decode_images(texts: Vec<String>) -> Result<Vec<Bytes>, ApiError> {
    let decode = |(n, text): (usize, String)| {
        decode_base64(&text).ok_or_else(|| ApiError::field(format!("images_base64[{n}]"), "must be base64"))
    };
    texts.into_iter().enumerate().map(decode).collect()
}

/// Base64 of at least one byte, with or without a `data:` URL before it.
pub(super) fn decode_base64(text: &str) -> Option<Bytes> {
    let text = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,")?.1,
        None => text,
    };
    STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty()).map(Bytes::from)
}

/// The item after a JSON merge patch (RFC 7396): fields that are `null` go, others are replaced, objects are merged.
pub(in crate::api) fn patched(current: &Item, patch: Value) -> Result<ItemBody, ApiError> {
    if !patch.is_object() {
        return Err(ApiError::field("body", "must be an object"));
    }
    let mut document = serde_json::to_value(ItemBody::from(current))
        .map_err(|e| crate::engine::EngineError::Internal(e.to_string()))?;
    merge(&mut document, patch);
    from_value(document, "")
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// An item as it is read.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Item)]
pub(in crate::api) struct ItemAnswer {
    /// The owner's id.
    #[schema(value_type = String)]
    item_id: ItemId,
    /// A line to show.
    title: String,
    /// A paragraph to show or search.
    description: String,
    /// Free labels.
    tags: Vec<String>,
    /// Labels from the owner's own hierarchy, for example genres.
    categories: Vec<String>,
    /// The regions it may be shown in; none means everywhere.
    regions: Vec<String>,
    /// Playing time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_s: Option<f32>,
    /// The least age in years at which it may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_rating: Option<u8>,
    /// Not to be shown before.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_from: Option<Rfc3339>,
    /// Not to be shown from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_until: Option<Rfc3339>,
    /// Further fields to filter by.
    attributes: BTreeMap<String, AttributeValue>,
    /// Its pictures.
    images: Vec<ImageAnswer>,
}

/// A picture of an item.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ItemImage)]
pub(in crate::api) struct ImageAnswer {
    /// Where a thumbnail is.
    url: String,
    /// SHA-256 of the uploaded file, in hexadecimal.
    sha256: String,
    /// Width in pixels.
    width: u32,
    /// Height in pixels.
    height: u32,
}

impl From<ItemView> for ItemAnswer {
    fn from(view: ItemView) -> Self {
        let id = view.item.id.clone();
        let images = view.images.into_iter().enumerate().map(|(n, image)| ImageAnswer {
            url: thumbnail_url(&id, n),
            sha256: image.sha256,
            width: image.width,
            height: image.height,
        });
        let images = images.collect();
        // The patch's base document has the same fields.
        let item = ItemBody::from(&view.item);
        Self {
            item_id: view.item.id,
            title: item.title,
            description: item.description,
            tags: item.tags,
            categories: item.categories,
            regions: item.regions,
            duration_s: item.duration_s,
            age_rating: item.age_rating,
            available_from: item.available_from,
            available_until: item.available_until,
            attributes: item.attributes,
            images,
        }
    }
}

/// Where the thumbnail of an item's picture is.
pub(super) fn thumbnail_url(id: &ItemId, image: usize) -> String {
    format!("/v1/items/{}/images/{image}", percent_encoded(id.as_str()))
}

/// `text` as one segment of a path (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A page of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ItemPage)]
pub(in crate::api) struct ItemPageAnswer {
    /// The items, in the order of their ids.
    items: Vec<ItemAnswer>,
    /// Give this as `cursor` to go on; missing on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl From<ItemPage> for ItemPageAnswer {
    fn from(page: ItemPage) -> Self {
        Self {
            items: page.items.into_iter().map(Into::into).collect(),
            next_cursor: page.next.map(|id| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_str())),
        }
    }
}

impl ItemPageAnswer {
    /// Where a cursor points.
    pub(in crate::api) fn from_cursor(cursor: &str) -> Option<ItemId> {
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor).ok()?;
        ItemId::new(std::str::from_utf8(&bytes).ok()?).ok()
    }
}

/// What became of an item.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ItemReceipt)]
pub(in crate::api) struct ItemReceiptAnswer {
    /// The item.
    #[schema(value_type = String)]
    pub(in crate::api) item_id: ItemId,
    /// Whether it is new.
    pub(in crate::api) created: bool,
    /// How many pictures it has now.
    pub(in crate::api) images: usize,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Timestamp;

    fn id(text: &str) -> ItemId {
        ItemId::new(text).unwrap()
    }

    fn body(value: Value) -> Result<ItemBody, ApiError> {
        from_value(value, "")
    }

    #[test]
    fn a_full_item_goes_through_and_back() {
        let json = json!({
            "item_id": "a", "title": "T", "description": "D", "tags": ["x"], "categories": ["c"], "regions": ["de"],
            "duration_s": 12.5, "age_rating": 6, "available_from": "1970-01-01T00:00:01Z",
            "available_until": "1970-01-01T00:00:02Z",
            "attributes": {"hd": true, "year": 1999.0, "studio": "S", "cast": ["A", "B"]}
        });
        let write = write_of(body(json.clone()).unwrap(), Some(&id("a")), None, 16).unwrap();
        assert_eq!(write.item.available_from, Some(Timestamp(1000)));
        assert_eq!(write.images, None);
        assert_eq!(serde_json::to_value(ItemBody::from(&write.item)).unwrap(), json);
    }

    #[test]
    fn what_is_read_is_what_was_written_and_its_pictures() {
        let write =
            write_of(body(json!({"title": "T", "age_rating": 6})).unwrap(), Some(&id("a b")), None, 16).unwrap();
        let images = vec![crate::engine::ImageView { sha256: "00ff".into(), width: 4, height: 3 }];
        let answer = serde_json::to_value(ItemAnswer::from(ItemView { item: write.item, images })).unwrap();
        assert_eq!(
            answer,
            json!({"item_id": "a b", "title": "T", "description": "", "tags": [], "categories": [], "regions": [],
                "age_rating": 6, "attributes": {},
                "images": [{"url": "/v1/items/a%20b/images/0", "sha256": "00ff", "width": 4, "height": 3}]})
        );
    }

    #[test]
    fn what_is_exported_can_be_written_again() {
        let write =
            write_of(body(json!({"title": "T", "duration_s": 0.1})).unwrap(), Some(&id("a")), None, 16).unwrap();
        let images = vec![ImageView { sha256: "00ff".into(), width: 4, height: 3 }];
        let line = serde_json::to_string(&ItemBody::exported(&ItemView { item: write.item.clone(), images })).unwrap();
        assert!(line.contains(r#""duration_s":0.1,"#), "{line}");
        assert!(line.contains(r#""exported_images":[{"sha256":"00ff","width":4,"height":3}]"#), "{line}");
        let again = write_of(serde_json::from_str(&line).unwrap(), None, None, 16).unwrap();
        assert_eq!((again.item, again.images), (write.item, None), "pictures that it has it keeps");
    }

    #[test]
    fn refusals_name_the_field() {
        let field = |value: Value| {
            let outcome = body(value).and_then(|b| write_of(b, Some(&id("a")), None, 2));
            outcome.unwrap_err().fields()[0].field.clone()
        };
        assert_eq!(field(json!({"item_id": "b"})), "item_id");
        assert_eq!(field(json!({"titel": "x"})), "titel");
        assert_eq!(field(json!({"tags": [""]})), "tags");
        assert_eq!(field(json!({"available_from": "soon"})), "available_from");
        assert_eq!(field(json!({"attributes": {"x": {"y": 1}}})), "attributes.x");
        assert_eq!(field(json!({"images_base64": ["AAAA", "?"]})), "images_base64[1]");
        assert_eq!(field(json!({"images_base64": ["AAAA", "AAAA", "AAAA"]})), "images_base64");
        assert_eq!(write_of(body(json!({})).unwrap(), None, None, 2).unwrap_err().fields()[0].field, "item_id");
    }

    #[test]
    fn pictures_come_as_base64_or_data_urls() {
        assert_eq!(decode_base64("aGk=").unwrap(), "hi");
        assert_eq!(decode_base64("data:image/png;base64,aGk=").unwrap(), "hi");
        assert!(decode_base64("").is_none() && decode_base64("data:image/png,hi").is_none());
        let write = write_of(body(json!({"images": ["aGk="]})).unwrap(), Some(&id("a")), None, 16).unwrap();
        assert_eq!(write.images.unwrap(), ["hi"]);
        let write = write_of(body(json!({"images_base64": []})).unwrap(), Some(&id("a")), None, 16).unwrap();
        assert!(write.images.unwrap().is_empty(), "an empty list removes pictures");
    }

    #[test]
    fn a_merge_patch_replaces_removes_and_merges() {
        let mut item = Item::new(id("a"));
        item.title = "old".into();
        item.age_rating = Some(12);
        item.attributes.insert("year".into(), Attribute::Number(1999.0));
        item.attributes.insert("hd".into(), Attribute::Flag(true));
        let patch = json!({"title": "new", "age_rating": null, "attributes": {"hd": null, "studio": "S"}});
        let after = write_of(patched(&item, patch).unwrap(), Some(&id("a")), None, 16).unwrap().item;
        assert_eq!((after.title.as_str(), after.age_rating), ("new", None));
        assert_eq!(after.attributes.keys().collect::<Vec<_>>(), ["studio", "year"]);
        assert_eq!(patched(&item, json!({"tittle": "x"})).unwrap_err().fields()[0].field, "tittle");
        assert!(patched(&item, json!([1])).is_err());
    }

    #[test]
    fn merging_follows_the_examples_of_rfc_7396() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut merged = target;
            merge(&mut merged, patch);
            assert_eq!(merged, result);
        }
    }

    #[test]
    fn cursors_and_urls_survive_awkward_ids() {
        let awkward = id("Über/7 ß?");
        let page = ItemPageAnswer::from(ItemPage { items: vec![], next: Some(awkward.clone()) });
        assert_eq!(ItemPageAnswer::from_cursor(&page.next_cursor.unwrap()), Some(awkward));
        assert_eq!(ItemPageAnswer::from_cursor("***"), None);
        assert_eq!(percent_encoded("a/b ü"), "a%2Fb%20%C3%BC");
    }
}
