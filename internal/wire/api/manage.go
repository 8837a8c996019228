package api

// PullRequest is the body of POST /api/pull.
type PullRequest struct {
	Model    string `json:"model"`
	Insecure bool   `json:"insecure"`
	Username string `json:"username"` // no longer looked at by a node
	Password string `json:"password"` // the same
	Stream   *bool  `json:"stream"`
	Name     string `json:"name"` // the older spelling of model
}

// PushRequest is the body of POST /api/push: a node reads the same fields.
type PushRequest PullRequest

// DeleteRequest is the body of DELETE /api/delete.
type DeleteRequest struct {
	Model string `json:"model"`
	Name  string `json:"name"` // the older spelling of model
}

// CopyRequest is the body of POST /api/copy.
type CopyRequest struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
}

// CreateRequest is the body of POST /api/create.
type CreateRequest struct {
	Model        string            `json:"model"`
	Stream       *bool             `json:"stream"`
	Quantize     string            `json:"quantize"`
	From         string            `json:"from"`
	RemoteHost   string            `json:"remote_host"`
	Files        map[string]string `json:"files"`
	Adapters     map[string]string `json:"adapters"`
	Template     string            `json:"template"`
	License      any               `json:"license"`
	System       string            `json:"system"`
	Parameters   map[string]any    `json:"parameters"`
	Messages     []Message         `json:"messages"`
	Renderer     string            `json:"renderer"`
	Parser       string            `json:"parser"`
	Requires     string            `json:"requires"`
	Info         map[string]any    `json:"info"`
	Name         string            `json:"name"`         // the older spelling of model
	Quantization string            `json:"quantization"` // the older spelling of quantize
}
