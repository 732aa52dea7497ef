//! A built model as a [`Source`]: an artifact of its own, or the one that this program carries.
//!
//! In: a path. Out: what is known of the model, its tokenizer, the model. It upholds that code for another machine is
//! refused at once. While the tokenizer is read another thread reads the weights, so that the first token waits for the longer
//! of the two.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use tern_runtime::artifact::{Artifact, Error};
use tern_runtime::cores::physical_cores;
use tern_runtime::generated::artifact::Kind;
use tern_runtime::memory::{Experts, HugePages};
use tern_runtime::shown::on_one_line;
use tern_runtime::{Model, Tokenizer};

use crate::source::{Facts, Source};

/// An opened artifact that runs here.
pub struct ArtifactSource {
    artifact: Arc<Artifact>,
    facts: Facts,
    tokenizer_config_json: Option<Vec<u8>>,
    chat_template_jinja: Option<Vec<u8>>,
    huge_pages: HugePages,
    experts: Experts,
    /// The model, on its way.
    coming: Option<JoinHandle<Result<Model, Error>>>,
}

impl ArtifactSource {
    /// Opens the file `path`, an artifact or a program that carries one.
    ///
    /// # Errors
    /// If it is none, is damaged, or is not for this machine.
    pub fn open(path: &Path) -> Result<Self> {
        let artifact = Artifact::open(path)?;
        artifact.check_machine()?;
        let meta = artifact.meta();
        let facts = Facts {
            name: on_one_line(&meta.name),
            vocab: meta.vocab,
            embedding: meta.embedding,
            prepared_positions: meta.max_context,
            most_positions: meta.max_context,
            bos: meta.bos,
            eos: meta.eos.clone(),
            generation: meta.generation,
        };
        let tokenizer_config_json = artifact.text(Kind::TokenizerConfig)?;
        let chat_template_jinja = artifact.text(Kind::ChatTemplate)?;
        let artifact = Arc::new(artifact);
        Ok(Self {
            artifact,
            facts,
            tokenizer_config_json,
            chat_template_jinja,
            huge_pages: HugePages::Ask,
            experts: Experts::Auto,
            coming: None,
        })
    }

    /// What is to be said of the model before it runs.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        self.artifact.meta().remarks.iter().map(|text| on_one_line(text))
    }

    /// The artifact.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }
}

impl Source for ArtifactSource {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn tokenizer_config_json(&self) -> Option<&[u8]> {
        self.tokenizer_config_json.as_deref()
    }

    fn chat_template_jinja(&self) -> Option<&[u8]> {
        self.chat_template_jinja.as_deref()
    }

    fn set_huge_pages(&mut self, huge_pages: HugePages) {
        self.huge_pages = huge_pages;
    }

    fn set_experts(&mut self, experts: Experts) {
        self.experts = experts;
    }

    fn tokenizer(&mut self) -> Result<Tokenizer> {
        let json = self.artifact.text(Kind::Tokenizer)?.context(
            "the model was built without a tokenizer: give token ids with --ids and --print-ids, or build it from a \
             checkpoint that has a tokenizer.json",
        )?;
        let (artifact, huge_pages, experts) = (Arc::clone(&self.artifact), self.huge_pages, self.experts);
        let load = move || artifact.load(physical_cores(), huge_pages, experts);
        // Where the system starts no thread, the model is loaded later.
        self.coming = std::thread::Builder::new().name("tern-load".to_owned()).spawn(load).ok();
        let Facts { bos, vocab, .. } = self.facts;
        Ok(Tokenizer::from_json(&json, self.tokenizer_config_json.as_deref(), bos, vocab)?)
    }

    fn load(mut self: Box<Self>) -> Result<Arc<Model>> {
        let model = match self.coming.take().map(JoinHandle::join) {
            Some(Ok(loaded)) => loaded?,
            Some(Err(_)) => bail!("bug in tern: the thread that loads the model failed"),
            None => self.artifact.load(physical_cores(), self.huge_pages, self.experts)?,
        };
        Ok(Arc::new(model))
    }
}
