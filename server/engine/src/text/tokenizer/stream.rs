//! The tokenizer as tantivy calls it.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

use super::{Mode, Tokens};

/// Gives tantivy exactly the terms that [`Tokens`] finds.
#[derive(Debug, Clone)]
pub(crate) struct CodeAwareTokenizer {
    mode: Mode,
    tokens: Tokens,
}

impl CodeAwareTokenizer {
    /// A tokenizer for one kind of field.
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, tokens: Tokens::default() }
    }
}

/// The stream over one text.
#[derive(Debug)]
pub(crate) struct CodeAwareStream<'a> {
    tokens: &'a Tokens,
    next: usize,
    token: Token,
}

impl Tokenizer for CodeAwareTokenizer {
    type TokenStream<'a> = CodeAwareStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> CodeAwareStream<'a> {
        self.tokens.analyze(text, self.mode);
        CodeAwareStream { tokens: &self.tokens, next: 0, token: Token::default() }
    }
}

impl TokenStream for CodeAwareStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(token) = self.tokens.get(self.next) else { return false };
        self.next += 1;
        self.token.text.clear();
        self.token.text.push_str(token.term);
        self.token.position = usize::try_from(token.position).unwrap_or(usize::MAX);
        self.token.position_length = 1;
        self.token.offset_from = token.start;
        self.token.offset_to = token.end;
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
