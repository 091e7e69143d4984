// modzip DIRECTORY VERSION PROXY: packs a module as a module proxy would serve
// it, so that `GOPROXY=file://PROXY go get` installs it like a published one.
package main

import (
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: modzip DIRECTORY VERSION PROXY")
	}
	if err := pack(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func pack(directory, version, proxy string) error {
	mod, err := os.ReadFile(filepath.Join(directory, "go.mod"))
	if err != nil {
		return err
	}
	path := module.Version{Path: modfile.ModulePath(mod), Version: version}
	home := filepath.Join(proxy, path.Path, "@v")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	info, err := json.Marshal(map[string]any{"Version": version, "Time": time.Now().UTC()})
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{"list": []byte(version + "\n"), version + ".mod": mod, version + ".info": info} {
		if err := os.WriteFile(filepath.Join(home, name), text, 0o644); err != nil {
			return err
		}
	}
	file, err := os.Create(filepath.Join(home, version+".zip"))
	if err != nil {
		return err
	}
	if err := zip.CreateFromDir(file, path, directory); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
