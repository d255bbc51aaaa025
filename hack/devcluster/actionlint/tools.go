//go:build tools

// Package tools pins actionlint: go.mod can only hold versions of modules that some file of this module imports.
package tools

import _ "github.com/rhysd/actionlint/cmd/actionlint"
