package web

import (
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/people"
)

// authorRoutes are those of login, writing and images.
func (h *Handler) authorRoutes() {
	h.reader("GET /login", "login", h.loginForm)
	h.reader("POST /login", "login", h.login)
	h.reader("GET "+linkPath, "login_link", h.linkForm)
	h.reader("POST "+linkPath, "login_link", h.useLink)
	h.reader("POST /logout", "logout", h.logout)
	h.authorOnly("GET /password", "password", h.passwordForm)
	h.authorOnly("POST /password", "password", h.setPassword)

	h.authorOnly("GET /create", "create", h.createForm)
	h.authorOnly("POST /create", "create", h.create)
	h.authorOnly("GET /post/{id}/edit", "edit", h.editForm)
	h.authorOnly("POST /post/{id}/edit", "edit", h.edit)
	h.authorOnly("POST /preview", "preview", h.preview)
	h.authorOnly("POST /post/{id}/delete", "delete", h.remove)
	h.authorOnly("POST /post/{id}/restore", "restore", h.restore)
	h.authorOnly("GET /drafts", "drafts", h.drafts)
	h.authorOnly("GET /deleted", "deleted", h.deleted)

	h.authorOnly("GET /images", "upload", h.uploadForm)
	h.authorOnly("POST /images", "upload", h.upload)
	h.reader("GET /images/{name}", "image", h.image)
}

// linkPath is where one-time links lead, with their token behind it.
const linkPath = "/login/link"

// smallForm is the most bytes of a form that anybody may send.
const smallForm = 16 << 10

// signInFirst is what a form says that was sent after the session had ended.
var signInFirst = trouble{
	Heading: "Sign in first",
	Advice:  "Nothing was changed. Sign in in another tab, go back in this one, and send it again.",
}

// signInPath is the address to sign in at for who wants to go to next.
func signInPath(next string) string {
	if next = localPath(next); next == "/" {
		return "/login"
	}
	return "/login?next=" + url.QueryEscape(next)
}

// localPath is next if it leads to a page of this blog, else "/": a link to our login must not end at
// somebody else's. Browsers take a backslash for a slash and leave tabs and line ends out.
func localPath(next string) string {
	outside := func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }
	if len(next) > 2000 || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsFunc(next, outside) {
		return "/"
	}
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || strings.HasPrefix(u.Path, "//") || strings.HasPrefix(u.Path, "/login") {
		return "/"
	}
	return next
}

// A loginPage is what the template login shows.
type loginPage struct {
	Name, Next string
	Problem    string // empty: none
}

func (h *Handler) showLogin(w http.ResponseWriter, v *visit, status int, p loginPage) error {
	w.Header().Set("Cache-Control", "no-store")
	return h.show(w, v, status, frame{Name: "login", Title: "Sign in", Page: p})
}

func (h *Handler) loginForm(w http.ResponseWriter, v *visit) error {
	next := localPath(v.URL.Query().Get("next"))
	if v.author != nil {
		http.Redirect(w, v.Request, next, http.StatusSeeOther)
		return nil
	}
	return h.showLogin(w, v, http.StatusOK, loginPage{Next: next})
}

func (h *Handler) login(w http.ResponseWriter, v *visit) error {
	if err := readForm(w, v, smallForm); err != nil {
		return err
	}
	p := loginPage{Name: v.PostFormValue("name"), Next: localPath(v.PostFormValue("next"))}
	address := h.clientAddress(v.Request)
	token, err := h.people.Login(v.Context(), strings.TrimSpace(p.Name), v.PostFormValue("password"), address, h.opts.Now())
	var wait *people.WaitError
	switch {
	case errors.As(err, &wait):
		h.opts.Log.InfoContext(v.Context(), "a login has to wait after others that failed", "address", address, "wait", wait.Wait)
		seconds := int(math.Ceil(wait.Wait.Seconds()))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		p.Problem = v.lang.text("Too many logins have failed. Try again in %v.", time.Duration(seconds)*time.Second)
		return h.showLogin(w, v, http.StatusTooManyRequests, p)
	case errors.Is(err, people.ErrWrong):
		// Not the name: a password is typed there by mistake now and then.
		h.opts.Log.InfoContext(v.Context(), "a login failed", "address", address)
		p.Problem = v.lang.text("The name or the password is wrong.")
		return h.showLogin(w, v, http.StatusUnauthorized, p)
	case err != nil:
		return err
	}
	if err := h.signIn(w, v, token, "password"); err != nil {
		return err
	}
	http.Redirect(w, v.Request, p.Next, http.StatusSeeOther)
	return nil
}

// signIn gives the browser a session that has just begun, and ends the one that it had.
func (h *Handler) signIn(w http.ResponseWriter, v *visit, token, by string) error {
	author, err := h.people.SignedIn(v.Context(), token, h.opts.Now())
	if err != nil {
		return err
	}
	if err := h.endSession(v); err != nil {
		return err
	}
	remember(w, token)
	h.opts.Log.InfoContext(v.Context(), "an author signed in", "author", author.Name, "by", by, "address", h.clientAddress(v.Request))
	return nil
}

func (h *Handler) endSession(v *visit) error {
	cookie, err := v.Cookie(sessionCookie)
	if err != nil {
		return nil // there is none
	}
	return h.people.Logout(v.Context(), cookie.Value)
}

func (h *Handler) logout(w http.ResponseWriter, v *visit) error {
	if err := h.endSession(v); err != nil {
		return err
	}
	forget(w)
	w.Header().Set("Cache-Control", "no-store")
	if v.author != nil {
		h.opts.Log.InfoContext(v.Context(), "an author signed out", "author", v.author.Name)
	}
	http.Redirect(w, v.Request, "/", http.StatusSeeOther)
	return nil
}

// linkForm shows a button and uses nothing up: programs that look into mail open every link.
func (h *Handler) linkForm(w http.ResponseWriter, v *visit) error {
	w.Header().Set("Cache-Control", "no-store")
	return h.show(w, v, http.StatusOK, frame{Name: "link", Title: "Sign in", Page: v.URL.Query().Get("token")})
}

func (h *Handler) useLink(w http.ResponseWriter, v *visit) error {
	if err := readForm(w, v, smallForm); err != nil {
		return err
	}
	token, err := h.people.UseLink(v.Context(), v.PostFormValue("token"), h.opts.Now())
	if errors.Is(err, blog.ErrNotFound) {
		h.opts.Log.InfoContext(v.Context(), "a login by link failed", "address", h.clientAddress(v.Request))
		return &refusal{http.StatusGone, trouble{
			Heading: "This link does not work any more",
			Advice:  "It was used already, or is older than a day. Sign in by password, or have a new link made.",
		}}
	}
	if err != nil {
		return err
	}
	if err := h.signIn(w, v, token, "link"); err != nil {
		return err
	}
	http.Redirect(w, v.Request, "/password?signed-in", http.StatusSeeOther)
	return nil
}

// A passwordPage is what the template password shows.
type passwordPage struct {
	Notice, Problem string
}

func (h *Handler) passwordForm(w http.ResponseWriter, v *visit) error {
	var p passwordPage
	switch query := v.URL.Query(); {
	case query.Has("signed-in"):
		p.Notice = "You are signed in. Choose a password for the next time, as the link does not work again."
	case query.Has("changed"):
		p.Notice = "The password was changed. Everywhere else you are signed out."
	}
	return h.showPassword(w, v, http.StatusOK, p)
}

func (h *Handler) showPassword(w http.ResponseWriter, v *visit, status int, p passwordPage) error {
	return h.show(w, v, status, frame{Name: "password", Title: "Password", Page: p})
}

func (h *Handler) setPassword(w http.ResponseWriter, v *visit) error {
	if err := readForm(w, v, smallForm); err != nil {
		return err
	}
	password := v.PostFormValue("password")
	if password != v.PostFormValue("again") {
		return h.showPassword(w, v, http.StatusUnprocessableEntity, passwordPage{Problem: "The two are not the same."})
	}
	switch err := h.people.SetPassword(v.Context(), v.author.ID, password); {
	case errors.Is(err, people.ErrPassword):
		return h.showPassword(w, v, http.StatusUnprocessableEntity, passwordPage{Problem: "A password has 10 to 200 characters."})
	case err != nil:
		return err
	}
	token, err := h.people.Begin(v.Context(), v.author.ID, h.opts.Now())
	if err != nil {
		return err
	}
	remember(w, token)
	h.opts.Log.InfoContext(v.Context(), "a password was changed", "author", v.author.Name, "address", h.clientAddress(v.Request))
	http.Redirect(w, v.Request, "/password?changed", http.StatusSeeOther)
	return nil
}
