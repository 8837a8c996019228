package web

import "embed"

//go:embed assets
var assetFiles embed.FS

// assetPath is the address of a file of assets/.
func assetPath(name string) string { return "/assets/" + name }
