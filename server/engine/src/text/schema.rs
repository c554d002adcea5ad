//! Fields of the committed index, and an item's document. Nothing is stored in tantivy's document
//! store: text lives in the journal, what ranking needs lives in fast fields.

use tantivy::TantivyDocument;
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::tokenizer::TokenizerManager;

use crate::ids::Timestamp;
use crate::item::{ItemType, Sensitivity};

use super::document::{IndexDoc, PerField, TextField, id_hash, title_key};
use super::tokenizer::{CodeAwareTokenizer, Mode};

const PROSE: &str = "prose2";
const CODE: &str = "code1";

/// Names of the fast fields.
pub(crate) mod column {
    pub(crate) const ID: &str = "id";
    pub(crate) const ID_HASH: &str = "id_hash";
    pub(crate) const TITLE_KEY: &str = "title_key";
    pub(crate) const TYPE: &str = "type";
    pub(crate) const SENSITIVITY: &str = "sensitivity";
    pub(crate) const PINNED: &str = "pinned";
    pub(crate) const TTL_DAYS: &str = "ttl_days";
    pub(crate) const EXPIRES_AT: &str = "expires_at";
    pub(crate) const CREATED_AT: &str = "created_at";
    pub(crate) const UPDATED_AT: &str = "updated_at";
    pub(crate) const SEQ: &str = "seq";
    pub(crate) const TAG: &str = "tag";
    pub(crate) const LANGUAGE: &str = "language";
}

/// The fields of the index.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(crate) schema: Schema,
    pub(crate) text: PerField<Field>,
    pub(crate) id: Field,
    pub(crate) id_hash: Field,
    pub(crate) title_key: Field,
    pub(crate) item_type: Field,
    pub(crate) sensitivity: Field,
    pub(crate) pinned: Field,
    pub(crate) ttl_days: Field,
    pub(crate) expires_at: Field,
    pub(crate) created_at: Field,
    pub(crate) updated_at: Field,
    pub(crate) seq: Field,
    pub(crate) tag: Field,
    pub(crate) file: Field,
    pub(crate) symbol: Field,
    pub(crate) language: Field,
    pub(crate) created_by: Field,
}

impl Fields {
    pub(crate) fn new() -> Self {
        let mut builder = Schema::builder();
        let text = TextField::ALL.map(|field| {
            let tokenizer = match field.mode() {
                Mode::Prose => PROSE,
                Mode::Code => CODE,
            };
            let indexing = TextFieldIndexing::default()
                .set_tokenizer(tokenizer)
                .set_index_option(IndexRecordOption::WithFreqsAndPositions)
                .set_fieldnorms(true);
            builder.add_text_field(
                field.as_str(),
                TextOptions::default().set_indexing_options(indexing),
            )
        });
        let faceted = || STRING.set_fast("raw");
        Self {
            text,
            id: builder.add_text_field(column::ID, faceted()),
            id_hash: builder.add_u64_field(column::ID_HASH, FAST),
            title_key: builder.add_u64_field(column::TITLE_KEY, FAST | INDEXED),
            item_type: builder.add_u64_field(column::TYPE, FAST | INDEXED),
            sensitivity: builder.add_u64_field(column::SENSITIVITY, FAST),
            pinned: builder.add_u64_field(column::PINNED, FAST | INDEXED),
            ttl_days: builder.add_f64_field(column::TTL_DAYS, FAST),
            expires_at: builder.add_i64_field(column::EXPIRES_AT, FAST),
            created_at: builder.add_i64_field(column::CREATED_AT, FAST),
            updated_at: builder.add_i64_field(column::UPDATED_AT, FAST),
            seq: builder.add_u64_field(column::SEQ, FAST),
            tag: builder.add_text_field(column::TAG, faceted()),
            file: builder.add_text_field("file", STRING),
            symbol: builder.add_text_field("symbol", STRING),
            language: builder.add_text_field(column::LANGUAGE, faceted()),
            created_by: builder.add_text_field("created_by", STRING),
            schema: builder.build(),
        }
    }

    /// The field in which words of `field` are.
    pub(crate) fn of(&self, field: TextField) -> Field {
        let [title, text, code, tags, symbols, files] = self.text;
        match field {
            TextField::Title => title,
            TextField::Text => text,
            TextField::Code => code,
            TextField::Tags => tags,
            TextField::Symbols => symbols,
            TextField::Files => files,
        }
    }

    pub(crate) fn document(&self, doc: &IndexDoc) -> TantivyDocument {
        let mut out = TantivyDocument::new();
        for field in TextField::ALL {
            for value in doc.values(field) {
                out.add_text(self.of(field), value);
            }
        }
        out.add_text(self.id, doc.id.as_str());
        out.add_u64(self.id_hash, id_hash(&doc.id));
        out.add_u64(self.title_key, title_key(&doc.title));
        out.add_u64(self.item_type, type_code(doc.item_type));
        out.add_u64(self.sensitivity, sensitivity_code(doc.sensitivity));
        out.add_u64(self.pinned, u64::from(doc.pinned));
        out.add_f64(self.ttl_days, doc.ttl_days.unwrap_or(NO_TTL));
        out.add_i64(self.expires_at, doc.expires_at.map_or(NEVER, Timestamp::as_millis));
        out.add_i64(self.created_at, doc.created_at.as_millis());
        out.add_i64(self.updated_at, doc.updated_at.as_millis());
        out.add_u64(self.seq, doc.seq.0);
        for tag in &doc.tags {
            out.add_text(self.tag, tag);
        }
        for file in &doc.files {
            out.add_text(self.file, file);
        }
        for symbol in &doc.symbols {
            out.add_text(self.symbol, symbol);
        }
        if let Some(language) = &doc.language {
            out.add_text(self.language, language);
        }
        out.add_text(self.created_by, &doc.created_by);
        out
    }
}

/// Tokenizers under the names that the schema uses. A change of their behaviour takes new names,
/// so that an index made with the old ones is rebuilt.
pub(crate) fn tokenizers() -> TokenizerManager {
    let manager = TokenizerManager::default();
    manager.register(PROSE, CodeAwareTokenizer::new(Mode::Prose));
    manager.register(CODE, CodeAwareTokenizer::new(Mode::Code));
    manager
}

/// `expires_at` of an item that does not expire.
pub(crate) const NEVER: i64 = i64::MAX;
/// `ttl_days` of an item without one.
pub(crate) const NO_TTL: f64 = 0.0;

/// Number of a type, as columns have it.
pub(crate) fn type_code(item_type: ItemType) -> u64 {
    u64::from(item_type.code())
}

/// Number of a sensitivity, as columns have it.
pub(crate) fn sensitivity_code(sensitivity: Sensitivity) -> u64 {
    u64::from(sensitivity.code())
}
