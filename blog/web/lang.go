package web

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	textlang "golang.org/x/text/language"
)

// A language is that of the interface: its tag as in the attribute lang. What people write may be in any.
type language string

const (
	english language = "en"
	chinese language = "zh"
)

var offered = textlang.NewMatcher([]textlang.Tag{textlang.English, textlang.Chinese})

// languageOf is the one that the browser asks for, English if it asks for others only.
func languageOf(r *http.Request) language {
	asked := r.Header.Get("Accept-Language")
	if len(asked) > 1000 {
		return english
	}
	tags, _, err := textlang.ParseAcceptLanguage(asked)
	if err != nil {
		return english
	}
	if _, index, _ := offered.Match(tags...); index == 1 {
		return chinese
	}
	return english
}

//go:embed chinese.json
var chineseFile []byte

// chineseTexts has the Chinese text for each English one of the interface.
var chineseTexts = sync.OnceValue(func() map[string]string {
	texts := map[string]string{}
	if err := json.Unmarshal(chineseFile, &texts); err != nil {
		panic(err) // it is part of the program, and a test reads it
	}
	return texts
})

// text is an English text in this language. One without a translation stays English.
func (l language) text(english string, args ...any) string {
	text := english
	if l == chinese {
		if said, ok := chineseTexts()[english]; ok {
			text = said
		}
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}
