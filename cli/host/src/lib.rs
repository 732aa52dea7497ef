//! What `tern` and the programs that it builds do alike: prompts, generation, chat, reports. It knows no compiler.
