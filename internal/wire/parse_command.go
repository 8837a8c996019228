package wire

// Whether anything is left to answer once a request has been translated. If nothing is, a node
// loads the model and says so in the dialect and shape of the request.

func hasNoPrompt(r *reading) bool { return r.isEmpty("prompt") }

func hasNoMessages(r *reading) bool { return r.isEmpty("messages") }

// hasNoParts is for an OpenAI chat: each part of a content becomes a message of its own, so a
// message without parts vanishes.
func hasNoParts(r *reading) bool {
	for message := range elements(r.raw("messages")) {
		if !isEmptyList(pick(message, "content", folds)) {
			return false
		}
	}
	return true
}

// hasNoInput is for a Responses request. All that vanishes there is reasoning, of which the
// last piece counts.
func hasNoInput(r *reading) bool {
	if !r.isEmpty("instructions") {
		return false
	}
	input := r.raw("input")
	if input == nil || input[0] == '"' {
		return r.isEmpty("input")
	}
	thought := false
	for item := range elements(input) {
		if !hasWord(pick(item, "type", folds), "reasoning") {
			return false
		}
		thought = hasText(pick(item, "encrypted_content", folds))
	}
	return !thought
}

// hasNoContent is for an Anthropic chat: a message vanishes if its blocks hold nothing that
// the translator keeps.
func hasNoContent(r *reading) bool {
	switch system := r.raw("system"); {
	case system == nil:
	case system[0] == '"' && hasText(system):
		return false
	case system[0] == '[':
		for block := range elements(system) {
			// The translator keeps these blocks as free maps: case counts.
			if hasWord(pick(block, "type", exactly), "text") && hasText(pick(block, "text", exactly)) {
				return false
			}
		}
	}
	for message := range elements(r.raw("messages")) {
		if !isHollow(pick(message, "content", folds)) {
			return false
		}
	}
	return true
}

// isHollow tells whether nothing is left of the content of an Anthropic message.
func isHollow(content []byte) bool {
	if content == nil || content[0] == '"' {
		return !hasText(content)
	}
	thought := false
	for block := range elements(content) {
		switch kind := pick(block, "type", folds); {
		case hasWord(kind, "text"):
			if hasText(pick(block, "text", folds)) {
				return false
			}
		case hasWord(kind, "thinking"):
			// The last one counts.
			if thinking := pick(block, "thinking", folds); thinking != nil {
				thought = hasText(thinking)
			}
		case hasWord(kind, "image"), hasWord(kind, "tool_use"), hasWord(kind, "tool_result"),
			hasWord(kind, "server_tool_use"), hasWord(kind, "web_search_tool_result"):
			return false
		}
	}
	return !thought
}
